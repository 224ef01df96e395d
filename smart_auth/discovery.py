"""What apps read before they begin: where the endpoints are and what the server can do.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html,
https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata, RFC 8414
"""

from __future__ import annotations

from typing import Any, Final

from smart_auth import scopes
from smart_auth.client_auth import SIGNING_ALGORITHMS
from smart_auth.clients import AUTH_METHODS, GRANT_TYPES
from smart_auth.id_token import ONE_FACTOR, SEVERAL_FACTORS
from smart_auth.pkce import METHOD
from smart_auth.register import PATH as REGISTER
from smart_auth.terms import Terms

AUTHORIZE: Final = "/auth/authorize"
TOKEN: Final = "/auth/token"
PUSH: Final = "/auth/par"
INTROSPECT: Final = "/auth/introspect"
REVOKE: Final = "/auth/revoke"
USERINFO: Final = "/auth/userinfo"
JWKS: Final = "/auth/jwks"
MANAGE: Final = "/auth/account"

CAPABILITIES: Final = (
    "launch-ehr",
    "launch-standalone",
    "authorize-post",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-style",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-standalone-patient",
    "context-standalone-encounter",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
)

SCOPES: Final = (
    *(name for name in scopes.OTHERS if name != scopes.ACCOUNTS),  # which is for the few apps that it is given to
    *(
        f"{level}/*.{verbs}"
        for level in ("patient", "user", "system")
        for verbs in ("cruds", "rs", "*", "read", "write")
    ),
)

#: The extension by which apps of the first years find the endpoints.
OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
SECURITY_SERVICE: Final = "http://terminology.hl7.org/CodeSystem/restful-security-service"


def smart_configuration(terms: Terms, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """`.well-known/smart-configuration`.

    Args:
        terms: where the server is, and who may register apps
        more: members that other parts of the server add (`user_access_brand_bundle` …); its `capabilities` are added
            to ours
    """
    more = dict(more or {})
    return {
        **_endpoints(terms),
        "capabilities": [*CAPABILITIES, *more.pop("capabilities", ())],
        "management_endpoint": terms.at(MANAGE),
        **more,
    }


def openid_configuration(terms: Terms) -> dict[str, Any]:
    """`.well-known/openid-configuration`, which serves as RFC 8414's document too."""
    return {
        **_endpoints(terms),
        "userinfo_endpoint": terms.at(USERINFO),
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "acr_values_supported": [ONE_FACTOR, SEVERAL_FACTORS],
        "claims_supported": [
            *("iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash"),
            *("fhirUser", "profile", "name"),
        ],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }


def _endpoints(terms: Terms) -> dict[str, Any]:
    """What both documents say."""
    methods = [method for method in AUTH_METHODS if method != "none"]
    found = {
        "issuer": terms.issuer,
        "jwks_uri": terms.at(JWKS),
        "authorization_endpoint": terms.at(AUTHORIZE),
        "token_endpoint": terms.at(TOKEN),
        "pushed_authorization_request_endpoint": terms.at(PUSH),
        "introspection_endpoint": terms.at(INTROSPECT),
        "revocation_endpoint": terms.at(REVOKE),
        "grant_types_supported": list(GRANT_TYPES),
        "response_types_supported": ["code"],
        "scopes_supported": list(SCOPES),
        "code_challenge_methods_supported": [METHOD],
        "token_endpoint_auth_methods_supported": [*methods, "none"],
        "token_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "revocation_endpoint_auth_methods_supported": [*methods, "none"],
        "revocation_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "authorization_response_iss_parameter_supported": True,
    }
    if terms.registration != "off":
        found["registration_endpoint"] = terms.at(REGISTER)
    return found


def security_of(terms: Terms) -> dict[str, Any]:
    """`CapabilityStatement.rest.security`."""
    addresses = {
        "authorize": AUTHORIZE,
        "token": TOKEN,
        "introspect": INTROSPECT,
        "revoke": REVOKE,
        "manage": MANAGE,
    }
    if terms.registration != "off":
        addresses["register"] = REGISTER
    return {
        "extension": [
            {
                "url": OAUTH_URIS,
                "extension": [{"url": name, "valueUri": terms.at(path)} for name, path in addresses.items()],
            }
        ],
        "cors": True,
        "service": [
            {
                "coding": [{"system": SECURITY_SERVICE, "code": "SMART-on-FHIR", "display": "SMART-on-FHIR"}],
                "text": "OAuth2 using SMART-on-FHIR profile (see http://docs.smarthealthit.org)",
            }
        ],
    }


def style() -> dict[str, Any]:
    """What `smart_style_url` leads to: how apps may look to fit in.

    Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#styling
    """
    return {
        "color_background": "#ffffff",
        "color_error": "#b3261e",
        "color_highlight": "#0b5cad",
        "color_modal_backdrop": "",
        "color_success": "#1b6e3c",
        "color_text": "#1c2733",
        "dim_border_radius": "6px",
        "dim_font_size": "16px",
        "dim_spacing_size": "16px",
        "font_family_body": "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
        "font_family_heading": "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    }
