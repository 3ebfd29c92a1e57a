"""Reading what devices say of themselves: a phone, an emulated device, a desktop, one that says nothing."""

from __future__ import annotations

from android_bench import probe

PHONE = """@uname
5.10.157-android13 aarch64
@properties
[ro.product.model]: [Pixel 7]
[ro.soc.model]: [GS201]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.build.version.release]: [14]
@libc
/system/bin/linker64
@files
present:0-2
cpu0/cpufreq/cpuinfo_max_freq:1803000
cpu1/cpufreq/cpuinfo_max_freq:2348000
cpu2/cpufreq/cpuinfo_max_freq:2850000
cpu0/cpufreq/scaling_max_freq:1803000
cpu1/cpufreq/scaling_max_freq:2348000
cpu2/cpufreq/scaling_max_freq:{limit}
cpu0/cpufreq/scaling_governor:sched_pixel
cpu1/cpufreq/scaling_governor:sched_pixel
cpu2/cpufreq/scaling_governor:sched_pixel
/sys/class/thermal/thermal_zone0/type:battery
/sys/class/thermal/thermal_zone0/temp:61000
/sys/class/thermal/thermal_zone1/type:cpu-big
/sys/class/thermal/thermal_zone1/temp:43500
/sys/class/thermal/cooling_device0/type:thermal-cpufreq-0
/sys/class/thermal/cooling_device0/cur_state:{cooling}
@memory
MemTotal:        7767376 kB
@cpuinfo
processor	: 0
Features	: fp asimd asimdhp asimddp i8mm bf16
CPU implementer	: 0x41
CPU part	: 0xd05

processor	: 1
CPU implementer	: 0x41
CPU part	: 0xd41

processor	: 2
CPU implementer	: 0x41
CPU part	: 0xd99
"""


def test_phone() -> None:
    info = probe.parse(PHONE.format(limit=2850000, cooling=0), "ABC", "adb")
    assert (info.model, info.soc, info.abi, info.system) == ("Pixel 7", "GS201", "arm64-v8a", "Android 14")
    assert info.platform == "android_arm64"
    assert [core.name for core in info.cores] == ["Cortex-A55", "Cortex-A78", "Arm part 0xd99"]
    assert [core.max_khz for core in info.cores] == [1803000, 2348000, 2850000]
    assert info.isa == ("asimd", "asimddp", "asimdhp", "i8mm", "bf16")
    assert info.governor == "sched_pixel"
    assert info.temperature_c == 43.5
    assert info.throttled is False
    assert info.memory_mb == 7585
    assert not info.emulated


def test_a_lowered_limit_or_a_cooling_cpu_is_throttling() -> None:
    assert probe.parse(PHONE.format(limit=2000000, cooling=0), "ABC", "adb").throttled is True
    assert probe.parse(PHONE.format(limit=2850000, cooling=3), "ABC", "adb").throttled is True


def test_emulated_device_says_so() -> None:
    text = "@uname\n6.18.0 aarch64\n@properties\n[ro.kernel.qemu]: [1]\n[ro.tfq.emulator]: [qemu-aarch64 10.0.13]\n"
    info = probe.parse(text + "@libc\n/lib/ld-linux-aarch64.so.1\n", "127.0.0.1:4000", "adb")
    assert info.emulated
    assert info.emulator == "qemu-aarch64 10.0.13"
    assert (info.platform, info.abi, info.system) == ("linux_arm64", "aarch64", "Linux 6.18.0")


def test_android_emulator_is_emulated_too() -> None:
    assert probe.parse("@properties\n[ro.boot.qemu]: [1]\n", "emulator-5556", "adb").emulated


def test_desktop() -> None:
    text = (
        "@uname\n6.1.0 x86_64\n@libc\n/lib64/ld-linux-x86-64.so.2\n@cpuinfo\nprocessor : 0\n"
        "model name : Some CPU\nflags : fpu avx avx2 fma avx_vnni\n\nprocessor : 1\nmodel name : Some CPU\n"
    )
    info = probe.parse(text, "host", "host")
    assert (info.soc, info.platform, len(info.cores)) == ("Some CPU", "linux_x86_64", 2)
    assert info.isa == ("avx", "avx2", "fma", "avx_vnni")


def test_silence_is_unknown_not_an_error() -> None:
    info = probe.parse("", "x", "adb")
    assert (info.model, info.soc, info.governor, info.temperature_c, info.throttled) == (None,) * 5
    assert info.cores == ()
