"""Repositories made of what the system has installed."""

_GOOGLETEST = "/usr/src/googletest"

_GOOGLETEST_BUILD = """
cc_library(
    name = "gtest",
    srcs = ["googletest/src/gtest-all.cc", "googlemock/src/gmock-all.cc"],
    hdrs = glob(["googletest/include/**/*.h", "googlemock/include/**/*.h"]),
    copts = ["-std=c++17", "-w", "-O0", "-Iexternal/googletest/googletest", "-Iexternal/googletest/googlemock"],
    includes = ["googletest/include", "googlemock/include"],
    linkopts = ["-pthread"],
    textual_hdrs = glob(
        ["googletest/src/*", "googlemock/src/*"],
        exclude = ["googletest/src/gtest-all.cc", "googlemock/src/gmock-all.cc"],
    ),
    visibility = ["//visibility:public"],
)

cc_library(
    name = "gtest_main",
    srcs = ["googlemock/src/gmock_main.cc"],
    copts = ["-std=c++17", "-w", "-O0"],
    visibility = ["//visibility:public"],
    deps = [":gtest"],
)
"""

def _system_googletest_impl(ctx):
    root = ctx.path(_GOOGLETEST)
    if not root.exists:
        fail("GoogleTest's sources are not at %s: install Debian's libgtest-dev" % _GOOGLETEST)
    for folder in ["googletest", "googlemock"]:
        ctx.symlink(root.get_child(folder), folder)
    ctx.file("BUILD", _GOOGLETEST_BUILD)

system_googletest = repository_rule(
    implementation = _system_googletest_impl,
    doc = "GoogleTest from the sources that Debian's libgtest-dev installs, with the target names of the usual module.",
)
