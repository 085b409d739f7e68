# SPDX-License-Identifier: Apache-2.0
"""What ptxas says of every kernel: the table in docs/cuda.md, and the kernels that use local memory.

usage: kernel_table.py FOLDER NVCC_VERSION [--write]

FOLDER holds `STEM.log` (ptxas -v) and `STEM.ptx` of every csrc/cuda/STEM.cu. Local memory and spills beyond
csrc/cuda/local_memory.txt are an error. The table is written, or compared with docs/cuda.md where that names the same
version of nvcc: registers differ between versions.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CUDA = Path(__file__).resolve().parent
DOCUMENT = CUDA.parents[1] / "docs" / "cuda.md"
ALLOWED = CUDA / "local_memory.txt"
BEGIN, END = "<!-- kernels: nvcc {}, sm_90 -->", "<!-- end of kernels -->"

# of a multiprocessor of compute capability 9.0 (CUDA programming guide, table of technical specifications)
WARPS, BLOCKS, REGISTERS, SHARED = 64, 32, 65536, 228 << 10
SHARED_PER_BLOCK = 1 << 10  # that the system takes


class Kernel(NamedTuple):
    name: str
    threads: int
    registers: int
    shared: int  # bytes, static
    local: int  # bytes of stack and spills

    def occupancy(self) -> float:
        """Resident warps over the most there can be, from threads, registers and static shared memory."""
        warps = -(-self.threads // 32)
        warp_registers = -(-self.registers * 32 // 256) * 256  # given out in units of 256
        blocks = min(
            BLOCKS,
            WARPS // warps,
            REGISTERS // warp_registers // warps,
            SHARED // (self.shared + SHARED_PER_BLOCK),
        )
        return blocks * warps / WARPS


def short(signature: str) -> str:
    """`for_each` of a functor is called by the functor; namespaces and arguments are left out."""
    name = re.sub(r"\(anonymous namespace\)::|nf::|cuda::|\(int\)|^void ", "", signature)
    depth = 0
    for i, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            name = name[:i]
            break
    each = re.fullmatch(r"for_each_kernel<(.*?) ?>", name)
    return each[1] if each else name


def kernels_of(log: Path) -> list[Kernel]:
    text, ptx = log.read_text(), log.with_suffix(".ptx").read_text()
    threads = dict(re.findall(r"\.entry (\w+)\([^{]*?\.maxntid (\d+)", ptx))
    found = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers(.*?)\n",
        text,
        re.DOTALL,
    )
    mangled = "\n".join(name for name, *_ in found)
    names = subprocess.run(["c++filt"], input=mangled, capture_output=True, text=True, check=True).stdout.split("\n")
    return [
        Kernel(
            f"{log.stem}: {short(name)}",
            int(threads[symbol]),
            int(registers),
            sum(int(n) for n in re.findall(r"(\d+) bytes smem", rest)),
            int(stack) + int(stores) + int(loads),
        )
        for name, (symbol, stack, stores, loads, registers, rest) in zip(names, found, strict=False)
    ]


def check_local_memory(kernels: list[Kernel]) -> None:
    lines = (line.split("#")[0].strip() for line in ALLOWED.read_text().splitlines())
    allowed = dict(line.rsplit(" ", 1) for line in lines if line)
    greedy = [f"{k.name} {k.local}" for k in kernels if k.local > int(allowed.get(k.name, 0))]
    if greedy:
        sys.exit("\n".join(["more bytes of stack and spills than local_memory.txt allows:", *greedy]))
    gone = set(allowed) - {kernel.name for kernel in kernels if kernel.local}
    if gone:
        sys.exit(f"{ALLOWED.name} names kernels that use no local memory: {', '.join(sorted(gone))}")


def table(kernels: list[Kernel]) -> str:
    rows = [
        f"| `{k.name}` | {k.threads} | {k.registers} | {k.shared} | {k.local} | {k.occupancy():.0%} |"
        for k in sorted(kernels)
    ]
    head = "| kernel | threads | registers | shared, bytes | local, bytes | occupancy |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def main(folder: str, version: str, *options: str) -> None:
    logs = [Path(folder) / f"{source.stem}.log" for source in sorted(CUDA.glob("*.cu"))]
    kernels = list({k.name: k for log in logs for k in kernels_of(log)}.values())
    check_local_memory(kernels)
    text = DOCUMENT.read_text()
    begin = re.search(BEGIN.format(r"(\S+)"), text)
    end = text.index(END)
    new = f"{BEGIN.format(version)}\n{table(kernels)}"
    if "--write" in options:
        DOCUMENT.write_text(text[: begin.start()] + new + text[end:])
    elif begin[1] != version:
        print(f"docs/cuda.md holds the kernels of nvcc {begin[1]}, this is {version}: not compared")
    elif text[begin.start() : end] != new:
        sys.exit("docs/cuda.md: the table of kernels is stale; csrc/cuda/check_build.sh --write renews it")
    print(f"{len(kernels)} kernels, local memory as allowed")


if __name__ == "__main__":
    main(*sys.argv[1:])
