"""Cycles of the kernels' inner loops, as llvm-mca models CPUs, beside what their products alone would take.

    python -m delegates.int4.bench.arm.inner_loops

The loop is taken from the compiled file: of all loops without calls and branches inside, the one with the most product
instructions. Where a file makes kernels for weights of several formats, its functions have the bits of a weight as
first template argument, or behind the vector's type. The bound is the time of these instructions alone, without
dependences between them. Modelled: caches always hit, and llvm-mca lets in-order CPUs write results in order only, so
that there whatever is faster than a product waits behind it.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_KERNELS = Path(__file__).parents[2] / "kernels"
OBJECTS = Path("build/native/linux_arm64/delegates/int4/CMakeFiles/tfq_int4.dir/kernels")
MCA = "llvm-mca-19"
_OBJDUMP = "aarch64-linux-gnu-objdump"
_FEATURES = "+dotprod,+i8mm"
_ITERATIONS = 200

# CPU models by tier. llvm-mca has one model for Cortex-A76 and X1, that of the Cortex-A57; Neoverse N1 is the same core
# as the A76 and has its own.
CPUS = {
    "neon": ("cortex-a53", "cortex-a55", "cortex-a76", "neoverse-n1"),
    "neon_dotprod": ("cortex-a55", "cortex-a76", "cortex-x1", "neoverse-n1", "neoverse-v1"),
    "neon_i8mm": ("cortex-a710", "neoverse-v1"),
}
# Product instructions, with sixteen of them that wait for nothing.
_PRODUCTS = {
    "sdot": "sdot v{0}.4s, v30.16b, v31.4b[1]",
    "smmla": "smmla v{0}.4s, v30.16b, v31.16b",
    "smull": "smull v{0}.8h, v30.8b, v31.8b",
    "smlal": "smlal v{0}.8h, v30.8b, v31.8b",
    "smlal2": "smlal2 v{0}.8h, v30.16b, v31.16b",
    "fmla": "fmla v{0}.4s, v30.4s, v31.s[1]",
}


@dataclass(frozen=True)
class InnerLoop:
    """Cycles of one turn of a kernel's inner loop.

    Attributes:
        products: product instructions of a turn.
        bound: cycles that they alone would take.
    """

    kernel: str
    cpu: str
    instructions: int
    products: int
    cycles: float
    bound: float

    @property
    def share(self) -> float:
        return self.bound / self.cycles


def main_loop(object_file: Path, bits: int) -> list[str]:
    """Instructions of the loop with the most products, its branch to itself last; empty where there is none.

    Of two with as many it is the shorter one: the other is for weights that the packed form cannot hold.

    Args:
        bits: of a weight; of a file that has functions for several, only these are looked at.
    """
    command = [_OBJDUMP, "-d", "--no-show-raw-insn", str(object_file)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    functions = re.findall(r"^[0-9a-f]+ <(.*)>:$((?:\n.+)*)", listing, re.MULTILINE)
    of_bits = [text for name, text in functions if f"ILi{bits}ELi" in name or f"NeonELi{bits}E" in name]
    best: list[str] = []
    for function in of_bits or [text for _, text in functions]:
        lines = re.findall(r"^\s*([0-9a-f]+):\t(.*?)\s*(?://.*)?$", function, re.MULTILINE)
        index = {address: i for i, (address, _) in enumerate(lines)}
        branches = [
            i for i, (_, text) in enumerate(lines) if re.match(r"(b|b\..*|bl|cbn?z|tbn?z|ret|br|blr)\s", text + " ")
        ]
        for last in branches:
            target = re.search(r"\b([0-9a-f]+) <", lines[last][1])
            first = index.get(target[1]) if target else None
            if first is None or first > last or any(first <= other < last for other in branches):
                continue
            body = [text for _, text in lines[first : last + 1]]
            if (len(products(body)), -len(body)) > (len(products(best)), -len(best)):
                best = body
    return best


def products(body: Sequence[str]) -> list[str]:
    """Mnemonics of the product instructions among these."""
    return [name for text in body if (name := text.split()[0]) in _PRODUCTS]


def cycles(body: Sequence[str], cpu: str) -> float:
    """Cycles of one turn of a loop, by llvm-mca's model of the CPU."""
    text = "\n".join(re.sub(r"[0-9a-f]+ <.*>", ".Lturn", line) for line in body)
    command = [MCA, "-mtriple=aarch64", f"-mcpu={cpu}", f"-mattr={_FEATURES}", f"-iterations={_ITERATIONS}"]
    done = subprocess.run(command, input=f".Lturn:\n{text}\n", capture_output=True, text=True, check=False)
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if found is None:
        raise RuntimeError(f"{MCA} for {cpu}: {(done.stderr.splitlines() or ['no message'])[0]}")
    return int(found[1]) / _ITERATIONS


@functools.cache
def _cycles_of_product(name: str, cpu: str) -> float:
    return cycles([_PRODUCTS[name].format(i) for i in range(16)], cpu) / 16


def inner_loops(objects: Path = OBJECTS) -> list[InnerLoop]:
    """The loop of every product of matrices or windows on every CPU model of its tier."""
    found = []
    for tier, cpus in CPUS.items():
        for source in sorted((_KERNELS / tier).glob("gemm_*.cc")) + sorted((_KERNELS / tier).glob("dwconv_*.cc")):
            for kernel, bits in re.findall(r'"((?:gemm|dwconv)_q[sd]\d+_qs([48])\w+)"', source.read_text()):
                body = main_loop(objects / tier / f"{source.name}.o", int(bits))
                used = products(body)
                for cpu in cpus if used else ():
                    bound = sum(_cycles_of_product(name, cpu) for name in used)
                    found.append(InnerLoop(kernel, cpu, len(body), len(used), cycles(body, cpu), bound))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Models the kernels' inner loops with llvm-mca.")
    parser.add_argument("--objects", type=Path, default=OBJECTS, help="folder of the compiled kernels for arm64")
    parser.add_argument("--json", type=Path, required=True, help="where the cycles go")
    args = parser.parse_args()
    args.json.write_text(json.dumps([asdict(loop) for loop in inner_loops(args.objects)], indent=1) + "\n")


if __name__ == "__main__":
    main()
