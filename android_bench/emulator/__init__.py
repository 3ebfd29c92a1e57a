"""An emulated arm64 device: a small Debian with the real adbd, which listens on loopback only, for the real adb."""

from android_bench.emulator.process import CPUS, DEFAULT_CPU, Emulator
from android_bench.emulator.rootfs import Rootfs, prepare

__all__ = ["CPUS", "DEFAULT_CPU", "Emulator", "Rootfs", "prepare"]
