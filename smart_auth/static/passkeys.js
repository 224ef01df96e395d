// Passkeys: the one thing that a browser cannot do without a script (https://www.w3.org/TR/webauthn-3/).
"use strict";

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

async function post(path, csrf, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify(body),
  });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || "That did not work.");
  return found;
}

async function signIn(csrf, next) {
  const { ticket, options } = await post("/auth/passkeys/sign-in-options", csrf, {});
  const found = await navigator.credentials.get({
    publicKey: { ...options, challenge: bytes(options.challenge), allowCredentials: [] },
  });
  const credential = {
    id: found.id,
    rawId: text(found.rawId),
    type: found.type,
    response: {
      clientDataJSON: text(found.response.clientDataJSON),
      authenticatorData: text(found.response.authenticatorData),
      signature: text(found.response.signature),
      userHandle: found.response.userHandle ? text(found.response.userHandle) : "",
    },
  };
  return post("/auth/passkeys/sign-in", csrf, { ticket, credential, next });
}

async function register(csrf, name) {
  const { ticket, options } = await post("/auth/passkeys/register-options", csrf, {});
  const made = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: bytes(options.challenge),
      user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: (options.excludeCredentials || []).map((known) => ({ ...known, id: bytes(known.id) })),
    },
  });
  const credential = {
    id: made.id,
    rawId: text(made.rawId),
    type: made.type,
    response: {
      clientDataJSON: text(made.response.clientDataJSON),
      attestationObject: text(made.response.attestationObject),
      transports: made.response.getTransports ? made.response.getTransports() : [],
    },
  };
  return post("/auth/passkeys/register", csrf, { ticket, credential, name });
}

/** What went wrong, in words for people; browsers' own texts are for programmers. */
function words(error) {
  if (error.name === "NotAllowedError" || error.name === "AbortError") return "The passkey was not used. Try again.";
  if (error.name === "InvalidStateError") return "This device has a passkey for this account already.";
  return error.message;
}

async function run(button, place, work) {
  place.textContent = "";
  button.disabled = true;
  try {
    location.assign((await work()).next);
  } catch (error) {
    place.textContent = words(error);
    button.disabled = false;
  }
}

if (window.PublicKeyCredential) {
  for (const part of document.querySelectorAll("[data-passkeys]")) {
    part.hidden = false;
    const button = part.querySelector("[data-passkey-sign-in]");
    const place = part.querySelector("[data-passkey-fault]");
    button.addEventListener("click", () => run(button, place, () => signIn(button.dataset.csrf, button.dataset.next)));
  }
}

for (const form of document.querySelectorAll("[data-passkey-register]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const place = form.querySelector("[data-passkey-fault]");
    if (!window.PublicKeyCredential) {
      place.textContent = "This browser knows no passkeys.";
      return;
    }
    run(form.querySelector("button"), place, () => register(form.dataset.csrf, form.elements.name.value));
  });
}
