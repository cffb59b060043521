#include "backends/remote/process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <thread>

#include "backends/error.hpp"
#include "backends/remote/protocol.hpp"

extern char** environ;

namespace tessera::remote {
namespace {

[[noreturn]] void fail_start(Status status, const std::string& what, int error) {
  fail(status, "remote: " + what + ": " + std::system_category().message(error));
}

// posix_spawn's two argument objects.
struct SpawnArguments {
  SpawnArguments() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnArguments() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

// Starts `path` with `socket` as kWorkerSocket, no signal blocked. Returns errno's value.
int spawn(const std::string& path, int socket, pid_t& pid) {
  SpawnArguments arguments;
  int error = posix_spawn_file_actions_adddup2(&arguments.actions, socket, kWorkerSocket);
  if (error != 0) return error;
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&arguments.attributes, &none);
  posix_spawnattr_setflags(&arguments.attributes, POSIX_SPAWN_SETSIGMASK);
  std::string name = path;
  char* argv[] = {name.data(), nullptr};
  return posix_spawn(&pid, path.c_str(), &arguments.actions, &arguments.attributes, argv, environ);
}

}  // namespace

WorkerProcess::WorkerProcess(const std::string& path) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    fail_start(Status::out_of_host_memory, "no socket for the worker", errno);
  }
  const timeval patience{.tv_sec = kSendPatience.count(), .tv_usec = 0};
  ::setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const int error = spawn(path, ends[1], pid_);
  ::close(ends[1]);
  if (error != 0) {
    ::close(ends[0]);
    const bool exhausted = error == EAGAIN || error == ENOMEM;
    fail_start(exhausted ? Status::out_of_host_memory : Status::unsupported,
               "cannot start the worker '" + path + "'", error);
  }
  socket_ = ends[0];
}

WorkerProcess::~WorkerProcess() {
  reap(std::chrono::milliseconds(0));
  ::close(socket_);
}

void WorkerProcess::kill() noexcept {
  std::lock_guard lock(mutex_);
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  killed_ = true;
}

void WorkerProcess::reap(std::chrono::milliseconds patience) noexcept {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (bool overdue = false;;) {
    {
      std::lock_guard lock(mutex_);
      if (pid_ < 0) return;
      const pid_t got = ::waitpid(pid_, &wait_status_, WNOHANG);
      if (got == pid_ || (got < 0 && errno != EINTR)) {  // or somebody else has reaped it
        pid_ = -1;
        return;
      }
      if (!overdue && std::chrono::steady_clock::now() >= deadline) {
        ::kill(pid_, SIGKILL);  // not by kill(): a worker that does not end has not ended well
        overdue = true;
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
}

bool WorkerProcess::ended_well() const {
  std::lock_guard lock(mutex_);
  if (WIFSIGNALED(wait_status_)) return killed_ && WTERMSIG(wait_status_) == SIGKILL;
  return WEXITSTATUS(wait_status_) == 0;
}

std::string WorkerProcess::ending() const {
  std::lock_guard lock(mutex_);
  if (WIFSIGNALED(wait_status_)) return "signal " + std::to_string(WTERMSIG(wait_status_));
  return "exit code " + std::to_string(WEXITSTATUS(wait_status_));
}

std::string worker_path() {
  return TESSERA_REMOTE_WORKER;
}

}  // namespace tessera::remote
