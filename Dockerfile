# SPDX-License-Identifier: MIT
# The command line and the Python package on a CPU:
#   docker build -t poseren .
#   docker run --rm -v "$PWD:/data" poseren predict /data/frames --camera sr305 --out /data/joints.csv
FROM python:3.12-slim-bookworm AS build
ARG TORCH=torch==2.13.0
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
RUN python -m venv /opt/poseren
ENV PATH=/opt/poseren/bin:$PATH
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "$TORCH"
COPY requirements/build.txt requirements/build.txt
RUN pip install --no-cache-dir -r requirements/build.txt
COPY . .
RUN pip install --no-cache-dir --no-build-isolation .

FROM python:3.12-slim-bookworm
# OpenCV's wheel needs libGL and GLib.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home poseren
COPY --from=build /opt/poseren /opt/poseren
ENV PATH=/opt/poseren/bin:$PATH
USER poseren
WORKDIR /data
ENTRYPOINT ["poseren"]
CMD ["--help"]
