// Preloaded into adbd in the emulated device.
//
// Android's adbd takes its port and its identity from system properties and listens on every interface. Debian's adbd
// has no property store, and an emulated device must not open the user's machine: so properties come from a file here,
// and a socket bound to every address is bound to loopback instead.

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

namespace android {
namespace base {

// The function of libbase that adbd asks; lines of the file are key=value.
std::string GetProperty(const std::string& key, const std::string& default_value) {
  const char* path = std::getenv("ADBD_PROPS");
  std::ifstream file(path != nullptr ? path : "/run/build.prop");
  for (std::string line; std::getline(file, line);) {
    if (line.size() > key.size() && line[key.size()] == '=' && line.compare(0, key.size(), key) == 0) {
      return line.substr(key.size() + 1);
    }
  }
  return default_value;
}

}  // namespace base
}  // namespace android

extern "C" int bind(int socket, const sockaddr* address, socklen_t length) {
  using Bind = int (*)(int, const sockaddr*, socklen_t);
  static const Bind real = reinterpret_cast<Bind>(dlsym(RTLD_NEXT, "bind"));
  if (real == nullptr) {
    errno = ENOSYS;
    return -1;
  }
  if (address != nullptr && address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    sockaddr_in local;
    std::memcpy(&local, address, sizeof(local));
    local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return real(socket, reinterpret_cast<const sockaddr*>(&local), sizeof(local));
  }
  if (address != nullptr && address->sa_family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    sockaddr_in6 local;
    std::memcpy(&local, address, sizeof(local));
    // 127.0.0.1 written as an IPv6 address, so that clients of either family reach it under the one name.
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &local.sin6_addr);
    return real(socket, reinterpret_cast<const sockaddr*>(&local), sizeof(local));
  }
  return real(socket, address, length);
}
