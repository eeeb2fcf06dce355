# fasttail with FFCV, DALI, timm and ONNX, for machines with NVIDIA GPUs and for those without.
#
#   docker build -t fasttail .
#   docker run --rm --gpus all fasttail engines          which engines work here
#   docker run --rm --gpus all --ipc=host -v "$PWD:/work" --user "$(id -u):$(id -g)" \
#       fasttail train --stage rep --dataset inat2018    data/, shards/ and runs/ of this folder
#   docker run ... --entrypoint python fasttail -m fasttail.torchrun --nproc-per-node 8 train ...
#
# CUDA's libraries come with the wheels of torch and DALI, each of the version it was built with: a CUDA
# base image would only hold them once more. The driver is the host's, through NVIDIA's container toolkit:
# 580 or newer, as torch's wheels for CUDA 13 need it.
ARG BASE=debian:12-slim

# ---- packages: they change rarely -----------------------------------------------------------------
FROM ${BASE} AS packages
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        build-essential pkg-config python3-dev python3-venv \
        libjpeg-dev libopencv-dev libturbojpeg0-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        extras = project['optional-dependencies']; \
        print(*project['dependencies'], sep='\n'); \
        print(*(need for name in ('ffcv', 'dali', 'timm', 'export') for need in extras[name]), sep='\n')" \
        > requirements.txt \
    && python3 -m venv /opt/fasttail \
    && /opt/fasttail/bin/pip install --no-cache-dir -r requirements.txt

# ---- fasttail's own wheel, with its kernel: it changes often -----------------------------------------
FROM packages AS wheel
COPY . ./
RUN /opt/fasttail/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# ---- what runs: neither headers of libraries nor sources ----------------------------------------------
FROM ${BASE}
# gcc and Python's headers are for torch.compile.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        gcc libc6-dev python3-dev \
        libjpeg62-turbo libopencv-core406 libopencv-imgproc406 libturbojpeg0 libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 fasttail \
    && install -d -o fasttail /work
COPY --from=packages /opt/fasttail /opt/fasttail
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    /opt/fasttail/bin/pip install --no-cache-dir --no-deps --no-compile /wheels/*.whl

# The cache of compiled kernels is where any user (docker run --user) can make a folder. video: nvJPEG
# decodes with the GPU's JPEG engines. There is no HEALTHCHECK: one that decodes would open a second CUDA
# context beside a training, in its GPU's memory.
ENV PATH=/opt/fasttail/bin:$PATH \
    XDG_CACHE_HOME=/tmp/cache \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
USER 1000
WORKDIR /work
ENTRYPOINT ["fasttail"]
CMD ["--help"]
