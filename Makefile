# make demo      train a small network on handwritten digits with 2 ranks (installs what it needs)
# make test      run the whole test suite (installs what it needs)
# make test-mpi MPI=mpich   run the MPI part of it with openmpi, mpich, intel or debian (docs/mpi.md)
# make install   make .venv with the package and its development tools
# make sanitize  the native tests under the address, undefined-behaviour and thread sanitizers
# make fuzz      damaged frames of every codec for SECONDS (60), under sanitizers
# make lint      ruff, mypy, clang-format, shellcheck
# make cuda-check   compile the kernels for GPUs with CUDA 13 and 12, without a GPU (clang 18 or newer)
# make bench     the training benchmark (docs/benchmarks.md)
# make scaling   all-reduce in simulated networks of up to 1024 ranks (docs/scaling.md)
# make slurm-up  a Slurm of four emulated hosts on this machine; make slurm-down ends it (root)
# make net-up    four emulated hosts, RATE=1gbit limits their links; make net-down ends them (root)
# make docs      write the generated pages of docs/
# make clean     remove .venv, .venv-mpi-* and what was built

PYTHON ?= python3
MPI ?= openmpi
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := $(shell find csrc -name '*.cpp' -o -name '*.hpp' -o -name '*.inc' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null)
NATIVE_TESTS := $(wildcard tests/native/*.cpp tests/native/*.hpp tests/fuzz/*.cpp tests/sim/*.cpp tests/sim/*.hpp tests/device/*.cpp tests/device/*.hpp)
PACKAGE := $(shell find mpimlsys -name '*.py' -o -name '*.pyi')
BUILD := setup.py pyproject.toml requirements-dev.txt $(wildcard build_backend/*.py) \
	scripts/configure_mpi.sh

.PHONY: demo test test-mpi sanitize fuzz install lint format bench scaling docs clean cuda-check slurm-up slurm-down net-up net-down

install: $(STAMP)

$(STAMP): $(BUILD) $(NATIVE)
	@sh scripts/prerequisites.sh "$(PYTHON)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@sh scripts/configure_mpi.sh $(VENV)
	touch $@

demo: $(STAMP)
	@$(BIN)/mpimlsys launch -n 2 examples/mnist_cnn.toml --set job.out=runs/demo
	@printf '\nTo have mpimlsys on your PATH: source .venv/bin/activate\n'

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# the MPI environments have the package installed, not linked: they are made anew when it changes
.venv-mpi-%/.installed: $(BUILD) $(NATIVE) $(PACKAGE) scripts/mpi_environment.sh
	sh scripts/mpi_environment.sh $* "$(PYTHON)"
	touch $@

.venv-mpi-intel/.installed: .venv-mpi-mpich/.installed

test-mpi: .venv-mpi-$(MPI)/.installed
	sh scripts/test_mpi.sh $(MPI) $(PYTEST_ARGS)

# the same tests are part of make test
sanitize: $(STAMP)
	$(BIN)/python -m pytest tests/native/test_cpp.py -k sanitizer

fuzz:
	sh scripts/fuzz.sh $(SECONDS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE) $(NATIVE_TESTS)
	$(BIN)/shellcheck slurm/*.sbatch scripts/*.sh mpimlsys/launch/*.sh .ci/run

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE) $(NATIVE_TESTS)

cuda-check:
	nvcc=$$(sh scripts/cuda_from_pypi.sh build/cuda-13 13 "$(PYTHON)") && \
	cuda_12=$$(sh scripts/cuda_from_pypi.sh build/cuda-12 12 "$(PYTHON)") && \
	$(PYTHON) scripts/cuda_check.py "$$nvcc" "$$cuda_12"

bench: $(STAMP)
	$(BIN)/mpimlsys bench train

scaling: $(STAMP)
	$(BIN)/python benchmarks/scaling.py

slurm-up: $(STAMP)
	@$(BIN)/python tests/cluster/control.py up --slurm $(if $(RATE),--rate $(RATE))

net-up: $(STAMP)
	@$(BIN)/python tests/cluster/control.py up $(if $(RATE),--rate $(RATE))

slurm-down net-down:
	@$(PYTHON) tests/cluster/control.py down

docs: $(STAMP)
	$(BIN)/python -c "from mpimlsys import jobfile; print(jobfile.describe(), end='')" > docs/job-file.md

clean:
	rm -rf $(VENV) .venv-mpi-* build *.egg-info mpimlsys/*.so
