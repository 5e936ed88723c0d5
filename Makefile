# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv and installs what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# The first interpreter that really runs and has a fitting version: a shim of a version manager may be there and not run.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  if $$p -c '$(FITS)' >/dev/null 2>&1; then echo $$p; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
SECONDS_OF_DEMO ?= 20
MODULES := edgekit edgekit_device

.PHONY: help demo test check format gates bench clean oracle wheels model-wheel interpreters

help:
	@echo "make demo    the whole line on this machine: ImageNet weights to FPS over MQTT"
	@echo "make test    every test that needs no root"
	@echo "make check   ruff, mypy --strict, the import arrows"
	@echo "make wheels model-wheel   what a board needs, without TensorFlow, into dist/"
	@echo "make interpreters   the device's tests on tflite-runtime and numpy 1, in an environment of their own"
	@echo "make gates   the long reliability gates (ONLY=D4,... for some of them)"
	@echo "make bench   what docs/results/ is made of (ONLY=spine for one)"

# A stamp a requirement set, so that nothing is installed twice and a changed pyproject installs again.
$(VENV)/stamp-python:
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c '$(FITS)'; then \
	  echo "EdgeKit needs Python 3.11, 3.12 or 3.13: sudo apt install python3 python3-venv" >&2; exit 1; fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv is missing: sudo apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/stamp-demo: $(VENV)/stamp-python pyproject.toml device/pyproject.toml
	@echo "installing EdgeKit into $(VENV) (about 2 GB with TensorFlow; once)"
	$(BIN)/python -m pip install --quiet -e './device[opencv,litert]' -e '.[all]'
	@touch $@

$(VENV)/stamp-dev: $(VENV)/stamp-demo
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

# Independent implementations that tests compare with: a PyTorch builder, and MediaPipe Tasks as a reader of our models
# (an environment of its own: it brings another OpenCV). Several hundred MB, so not part of `make test`.
oracle: $(VENV)/stamp-oracle $(VENV)/stamp-mediapipe $(VENV)/stamp-tfmot
$(VENV)/stamp-mediapipe: $(VENV)/stamp-dev
	$(PYTHON) -m venv $(VENV)-mediapipe
	$(VENV)-mediapipe/bin/python -m pip install --quiet 'mediapipe==1.2.2'
	@touch $@
# TFMOT works with TensorFlow 2.21 through tf_keras; beside, not in, the environment whose Keras is 3.
$(VENV)/stamp-tfmot: $(VENV)/stamp-dev
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)-tfmot \
	  'tensorflow-model-optimization==0.8.1' 'tf_keras==2.21.0' 'dm-tree==0.1.10' attrs wrapt
	@touch $@
$(VENV)/stamp-oracle: $(VENV)/stamp-dev
	$(PYTHON) -m venv $(VENV)-oracle
	$(BIN)/python -m pip --python $(VENV)-oracle/bin/python install --quiet 'torch==2.13.0' 'numpy<3' --group oracle
	@touch $@

# The interpreter of older and of 32-bit boards, with the numpy that it was built against: the device package's tests
# there. Its last wheel is for Python 3.11. TESTS=device/tests runs all of them (three minutes).
TESTS ?= $(addprefix device/tests/test_,golden.py bundle.py vision.py flatbuffer.py lanes.py check.py classifier.py slowness.py bench.py)
PYTHON_TFLITE ?= $(shell for p in python3.11 python3; do \
  if $$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
$(VENV)-tflite/stamp: device/pyproject.toml
	@if [ -z "$(PYTHON_TFLITE)" ]; then echo "tflite-runtime needs Python 3.11: apt install python3.11-venv" >&2; exit 1; fi
	$(PYTHON_TFLITE) -m venv $(VENV)-tflite
	$(VENV)-tflite/bin/python -m pip install --quiet 'tflite-runtime==2.14.0' 'numpy<2' 'opencv-python-headless<4.12' \
	  'pytest>=9' 'hypothesis>=6.150' 'iotcore>=0.4,<0.5' 'gpiozero>=2' -e ./device
	@touch $@
interpreters: $(VENV)-tflite/stamp
	$(VENV)-tflite/bin/python -m pytest $(TESTS)

demo: $(VENV)/stamp-demo
	$(BIN)/edgekit demo --seconds $(SECONDS_OF_DEMO)

# WORKERS=2 shares the files between two processes: sooner, but tests with a board behind sshd then meet each other.
WORKERS ?= 0
test: $(VENV)/stamp-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(VENV)/stamp-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(addprefix -p ,$(MODULES))
	$(BIN)/python -m pytest tests/test_arrows.py

format: $(VENV)/stamp-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The device wheel, and the wheel that carries the signed int8 lite0 for it.
wheels: $(VENV)/stamp-demo
	$(BIN)/python -m pip wheel --quiet --no-deps -w dist ./device

model-wheel: $(VENV)/stamp-demo
	$(BIN)/python tools/make_model_wheel.py

gates: $(VENV)/stamp-dev
	$(BIN)/python tools/run_gates.py --only "$(ONLY)"

bench: $(VENV)/stamp-dev
	$(BIN)/python tools/run_benches.py --only "$(ONLY)"

clean:
	rm -rf $(VENV) $(VENV)-oracle $(VENV)-mediapipe $(VENV)-tfmot $(VENV)-tflite $(VENV)-race demo dist build
