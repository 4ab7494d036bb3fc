"""What the facts mean for computing and exchanging on GPUs. Pure: facts in, findings out."""

from __future__ import annotations

import re

from mpimlsys.doctor.facts import Cuda, Device, Facts
from mpimlsys.doctor.finding import Finding

_REBUILD = (
    "MPIMLSYS_CUDA=1 pip install --force-reinstall --no-deps --no-cache-dir mpimlsys, with nvcc "
    "12.5 or newer on PATH"
)


def gpus(facts: Facts) -> list[Finding]:
    """The GPUs of this node and what uses them; one line where there are none."""
    machine, cuda = facts.machine, facts.cuda
    if machine.gpu_error and not cuda.devices:
        remedy = "nvidia-smi shows the driver's state; training here runs on the CPU"
        return [Finding("GPUs", "note", f"cannot be counted: {machine.gpu_error}", remedy)]
    if not machine.gpus and not cuda.devices:
        return [Finding("GPUs", "ok", "none")]
    found = [Finding("GPUs", "ok", "; ".join(machine.gpus or map(_named, cuda.devices)))]
    if not cuda.targets:
        what = "not built: GPUs are not used"
        return [*found, Finding("GPU kernels", "note", what, _REBUILD), *_mpi(facts)]
    if not cuda.devices:
        remedy = (
            "compare the driver (nvidia-smi) with the CUDA of the kernels: a newer driver, or "
            f"kernels of an older CUDA: {_REBUILD}"
        )
        what = f"no GPU can be used: {cuda.error}"
        return [*found, Finding("GPU kernels", "warning", what, remedy), *_mpi(facts)]
    found += [_device(cuda, device) for device in cuda.devices]
    what = f"driver for CUDA {cuda.driver}, runtime {cuda.runtime}; built with {cuda.targets}"
    found.append(Finding("GPU kernels", "ok", what))
    if len(cuda.devices) > 1:
        found.append(_peers(cuda))
    what = cuda.cupy or "not installed, nor needed: any array with the CUDA array interface serves"
    return [*found, Finding("CuPy", "ok", what), *_mpi(facts)]


def fits(targets: str, capability: tuple[int, ...]) -> bool:
    """Whether kernels run on a GPU: machine code of its generation, or PTX of an older one.

    Args:
        targets: such as ``"CUDA 13.0: sm_80, sm_90, compute_90"``.
        capability: the GPU's compute capability, such as (8, 6).

    Source: CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility".
    """
    major, minor = capability
    for kind, number in re.findall(r"(sm|compute)_(\d+)", targets):
        of = divmod(int(number), 10)
        if kind == "sm" and of[0] == major and of[1] <= minor:
            return True
        if kind == "compute" and of <= (major, minor):
            return True
    return False


def _named(device: Device) -> str:
    return f"GPU {device.number}: {device.name}"


def _device(cuda: Cuda, device: Device) -> Finding:
    subject = f"GPU {device.number}"
    capability = ".".join(map(str, device.compute_capability))
    memory = f"{device.memory_bytes / 2**30:.1f} GiB"
    what = f"{device.name}, {memory}, compute capability {capability}"
    if fits(cuda.targets, device.compute_capability):
        return Finding(subject, "ok", what)
    return Finding(
        subject,
        "warning",
        f"{what}: no kernels for it ({cuda.targets})",
        "compute on a GPU of compute capability 8.0 or newer, or on the CPU",
    )


def _peers(cuda: Cuda) -> Finding:
    """Whether every GPU reads the memory of every other."""
    numbers = {device.number for device in cuda.devices}
    apart = [
        f"{device.number} not that of {', '.join(map(str, sorted(missing)))}"
        for device in cuda.devices
        if (missing := numbers - {device.number} - set(device.peers))
    ]
    if not apart:
        return Finding("GPU peers", "ok", "every GPU reads the memory of every other")
    return Finding(
        "GPU peers",
        "note",
        f"not every GPU reads the memory of every other: {'; '.join(apart)}",
        "exchange between those goes through the host's memory: nvidia-smi topo -m shows how they "
        "are connected",
    )


def _mpi(facts: Facts) -> list[Finding]:
    """What the library says of itself, beside what it did."""
    if facts.mpi is None:
        return []
    says = {
        True: "the library says it is CUDA-aware",
        False: "the library says it is not CUDA-aware",
        None: "the library does not say whether it is CUDA-aware",
    }[facts.mpi.cuda_aware]
    failure = facts.cuda.mpi_failure
    subject = "CUDA in MPI"
    if failure is None:
        return [Finding(subject, "ok", f"{says}; not tried")]
    if not failure:
        what = f"{says}; MPI_Allreduce of a GPU's memory is right in one process"
        return [Finding(subject, "ok", what)]
    what = f"{says}; MPI_Allreduce of a GPU's memory failed: {failure}"
    if not facts.mpi.cuda_aware:
        return [Finding(subject, "ok", f"{what}, so arrays go through the host's memory")]
    remedy = (
        "load the MPI that was built for this CUDA (Open MPI: ompi_info --parsable --all | grep "
        "mpi_built_with_cuda_support); do not give this one a GPU's arrays"
    )
    return [Finding(subject, "warning", what, remedy)]
