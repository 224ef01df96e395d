FROM python:3.11-slim

# The libraries that the embedded MongoDB is linked to.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libcurl4 libssl3 liblzma5 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/healthsphere
COPY . .
RUN pip install --no-cache-dir . && rm -rf /opt/healthsphere/* /opt/healthsphere/.[a-z]*

RUN useradd --system --uid 10001 --home-dir /var/lib/healthsphere --create-home healthsphere
USER healthsphere
WORKDIR /var/lib/healthsphere

# Reachable from outside the container, so requests need an access token, and the server wants to know how they are kept
# secret on their way: give it HEALTHSPHERE_BASE_URL=https://… (a proxy in front ends TLS) or HEALTHSPHERE_TLS_CERT_FILE
# and HEALTHSPHERE_TLS_KEY_FILE; or say HEALTHSPHERE_PLAIN_HTTP=allow to try it on your own machine. The operator's token
# is in /var/lib/healthsphere/data/access-token.
ENV HEALTHSPHERE_HOST=0.0.0.0 \
    HEALTHSPHERE_DATA_DIR=/var/lib/healthsphere/data \
    HEALTHSPHERE_LOG_FORMAT=json
VOLUME /var/lib/healthsphere
EXPOSE 8000
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=15s --timeout=5s --start-period=90s --retries=4 \
    CMD ["python", "-c", "import os, ssl, urllib.request as u; e = os.environ.get; u.urlopen(('https' if e('HEALTHSPHERE_TLS_CERT_FILE') else 'http') + '://127.0.0.1:' + e('HEALTHSPHERE_PORT', '8000') + '/health/live', timeout=4, context=ssl._create_unverified_context())"]

ENTRYPOINT ["healthsphere"]
CMD ["serve"]
