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

# Reachable from outside the container, so requests need the access token that the first start writes to
# /var/lib/healthsphere/data/access-token (or SMART, when it is set up).
ENV HEALTHSPHERE_HOST=0.0.0.0 \
    HEALTHSPHERE_DATA_DIR=/var/lib/healthsphere/data \
    HEALTHSPHERE_LOG_FORMAT=json
VOLUME /var/lib/healthsphere
EXPOSE 8000
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=15s --timeout=5s --start-period=90s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('HEALTHSPHERE_PORT', '8000') + '/health/live', timeout=4)"]

ENTRYPOINT ["healthsphere"]
CMD ["serve"]
