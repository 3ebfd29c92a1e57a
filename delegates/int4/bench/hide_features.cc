// Lets a process believe that its CPU has fewer features than it has, so that one machine can show what a runtime and
// the delegate do on a lesser one: CPUID traps (arch_prctl(2), ARCH_SET_CPUID), and the trap's handler answers without
// the hidden bits. Holds for the calling thread and those that it starts. Code that looked before keeps what it saw.
#include <cpuid.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>

namespace {

constexpr int kArchSetCpuid = 0x1012;
constexpr int kMaxHidden = 64;

// Bits of one answer of CPUID: `output` 0 to 3 is EAX, EBX, ECX, EDX.
struct Hidden {
  uint32_t leaf;
  uint32_t subleaf;
  uint32_t output;
  uint32_t bits;
};

Hidden g_hidden[kMaxHidden];
int g_count = 0;

long SetCpuidTraps(bool traps) { return syscall(SYS_arch_prctl, kArchSetCpuid, traps ? 0L : 1L); }

void Answer(int signal_number, siginfo_t*, void* context) {
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const uint8_t* const code = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);
  if (code[0] != 0x0f || code[1] != 0xa2) {
    // A real fault: it happens again and ends the process.
    signal(signal_number, SIG_DFL);
    return;
  }
  const uint32_t leaf = static_cast<uint32_t>(registers[REG_RAX]);
  const uint32_t subleaf = static_cast<uint32_t>(registers[REG_RCX]);
  uint32_t outputs[4];
  SetCpuidTraps(false);
  __cpuid_count(leaf, subleaf, outputs[0], outputs[1], outputs[2], outputs[3]);
  SetCpuidTraps(true);
  for (int i = 0; i < g_count; ++i) {
    if (g_hidden[i].leaf == leaf && g_hidden[i].subleaf == subleaf) outputs[g_hidden[i].output] &= ~g_hidden[i].bits;
  }
  registers[REG_RAX] = outputs[0];
  registers[REG_RBX] = outputs[1];
  registers[REG_RCX] = outputs[2];
  registers[REG_RDX] = outputs[3];
  registers[REG_RIP] += 2;
}

}  // namespace

// Hides the bits from now on. False where the kernel or the CPU cannot trap CPUID, or for too many entries.
extern "C" __attribute__((visibility("default"))) bool tfq_hide_cpu_features(const Hidden* hidden, int count) {
  if (count < 0 || count > kMaxHidden) return false;
  for (int i = 0; i < count; ++i) g_hidden[i] = hidden[i];
  g_count = count;
  struct sigaction action = {};
  action.sa_sigaction = Answer;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  return sigaction(SIGSEGV, &action, nullptr) == 0 && SetCpuidTraps(true) == 0;
}
