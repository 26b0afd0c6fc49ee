/* Power loss for tests: remembers what a disk would hold if it had kept nothing that no sync confirmed.

   cc -shared -fPIC -O2 -o lost_writes.so lost_writes.c -ldl -lpthread
   LD_PRELOAD=lost_writes.so PEERWATT_LOST_WRITES=DIR PEERWATT_LOST_WRITES_STATE=STATE program ...

   Programs write as ever. Beside DIR, STATE holds the durable picture:
     STATE/content/INODE   what of a file's bytes (and its length) a sync has confirmed
     STATE/tree/...        the names: hard links to content, as of the last sync of each directory
     STATE/table           shared by all processes: the byte range of each file written since its last sync
   After SIGKILL, lost_writes.py puts STATE/tree in the place of DIR. The worst case is chosen throughout:
     - bytes and length become durable at fsync or fdatasync of that file (or at once with O_SYNC or O_DSYNC), and at
       nothing else: not at close, not at sync_file_range, sync or syncfs, not by time passing;
     - names (created, renamed, linked, removed) become durable at fsync of their directory alone. A new directory
       becomes durable with its own fsync or its parent's.
   Not seen: writes through a shared memory map (SQLite's -shm, which is no durable state), and io_uring.

   PEERWATT_FAIL=WHEN:WHAT:N[+] makes the Nth event in DIR, over all processes, go wrong (with +, every one from N on):
     WHEN fsync (before a file's sync), synced (after it), write, unlink or dirsync; WHAT EIO, ENOSPC or KILL (SIGKILL).
   A sync that fails drops what it should have confirmed for good, as Linux does: a second sync would say all is well. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SLOTS = 1 << 16 };
enum event { FSYNC, SYNCED, WRITE, UNLINK, DIRSYNC, EVENTS };
static const char *const EVENT_NAMES[EVENTS] = {"fsync", "synced", "write", "unlink", "dirsync"};

struct entry {
  uint64_t inode;
  int64_t from, to;  /* bytes [from, to) were written since the last sync */
  int64_t by_stdio;  /* written through stdio: no range is known, every sync takes all of it */
};

struct table {
  uint64_t ready;
  int64_t counts[EVENTS]; /* lost_writes.py sets them to zero */
  pthread_mutex_t lock;
  struct entry entries[SLOTS];
};

static struct table *table;
static char folder[PATH_MAX], state[PATH_MAX];
static size_t folder_length;
static dev_t device;
static int fail_event = -1, fail_errno, fail_kill, fail_on;
static int64_t fail_at;

static void *next_one(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) abort();
  return found;
}

/* The real functions, looked up once each. */
#define REAL(name)                                                              \
  ({                                                                            \
    static __typeof__(name) *real_;                                             \
    if (!real_) real_ = (__typeof__(name) *)next_one(#name);                    \
    real_;                                                                      \
  })

static void die(const char *what) {
  dprintf(2, "lost_writes: %s: %s\n", what, strerror(errno));
  abort();
}

static void read_failure(const char *text) {
  char when[16], what[16], more[2] = "";
  long long at;
  if (!text || !*text) return;
  if (sscanf(text, "%15[a-z]:%15[A-Z]:%lld%1[+]", when, what, &at, more) < 3) die("PEERWATT_FAIL is WHEN:WHAT:N");
  for (int i = 0; i < EVENTS; i++)
    if (!strcmp(when, EVENT_NAMES[i])) fail_event = i;
  if (fail_event < 0) die("PEERWATT_FAIL names no event");
  fail_kill = !strcmp(what, "KILL");
  fail_errno = !strcmp(what, "ENOSPC") ? ENOSPC : EIO;
  fail_at = at;
  fail_on = more[0] == '+';
}

__attribute__((constructor)) static void start(void) {
  const char *dir = getenv("PEERWATT_LOST_WRITES"), *kept = getenv("PEERWATT_LOST_WRITES_STATE");
  char path[PATH_MAX + 16];
  struct stat info;
  if (table || !dir || !kept) return;
  if (!realpath(dir, folder) || !realpath(kept, state) || stat(folder, &info)) die("no such folder");
  folder_length = strlen(folder);
  device = info.st_dev;
  read_failure(getenv("PEERWATT_FAIL"));
  snprintf(path, sizeof path, "%s/table", state);
  int fd = REAL(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0 || flock(fd, LOCK_EX) || REAL(ftruncate)(fd, sizeof(struct table))) die("table");
  struct table *mapped = mmap(NULL, sizeof(struct table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) die("table");
  if (!mapped->ready) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST); /* its holder may be killed at any moment */
    pthread_mutex_init(&mapped->lock, &kind);
    mapped->ready = 1;
  }
  close(fd); /* and with it the lock on the file */
  table = mapped;
}

static void lock(void) {
  if (pthread_mutex_lock(&table->lock) == EOWNERDEAD) pthread_mutex_consistent(&table->lock);
}
static void unlock(void) { pthread_mutex_unlock(&table->lock); }

/* Counts an event; true if it has to fail, with errno set. */
static int fails(enum event event) {
  int64_t count = __atomic_add_fetch(&table->counts[event], 1, __ATOMIC_SEQ_CST);
  if ((int)event != fail_event || (fail_on ? count < fail_at : count != fail_at)) return 0;
  if (fail_kill) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  errno = fail_errno;
  return 1;
}

/* The file's entry; NULL if it has none and `make` is 0. The lock is held where `make` is 1. */
static struct entry *entry_of(uint64_t inode, int make) {
  size_t place = (inode * 0x9E3779B97F4A7C15ull) >> 48;
  for (size_t n = 0; n < SLOTS; n++, place = (place + 1) % SLOTS) {
    struct entry *entry = &table->entries[place];
    uint64_t found = __atomic_load_n(&entry->inode, __ATOMIC_ACQUIRE);
    if (found == inode) return entry;
    if (!found) {
      if (!make) return NULL;
      entry->from = INT64_MAX;
      entry->to = entry->by_stdio = 0;
      __atomic_store_n(&entry->inode, inode, __ATOMIC_RELEASE);
      return entry;
    }
  }
  die("more files than the table holds");
  return NULL;
}

static void add(struct entry *entry, int64_t from, int64_t to) {
  if (from < entry->from) entry->from = from;
  if (to > entry->to) entry->to = to;
}

static int inside(const char *path) {
  return !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

/* Path of an open file, 0 if it is not in the folder. */
static int path_of(int fd, char path[PATH_MAX]) {
  char link[32];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return inside(path);
}

static void content_path(uint64_t inode, char path[PATH_MAX + 32]) {
  snprintf(path, PATH_MAX + 32, "%s/content/%llu", state, (unsigned long long)inode);
}

/* An empty durable content; whoever still has the old one by name keeps it. The lock is held. */
static void fresh_content(uint64_t inode) {
  char path[PATH_MAX + 32];
  content_path(inode, path);
  REAL(unlink)(path);
  int fd = REAL(open)(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) die(path);
  close(fd);
}

/* A file in the folder was opened. */
static void opened(int fd, int created, int emptied, int by_stdio) {
  char path[PATH_MAX], content[PATH_MAX + 32];
  struct stat info;
  if (!path_of(fd, path) || fstat(fd, &info) || !S_ISREG(info.st_mode)) return;
  lock();
  struct entry *entry = entry_of(info.st_ino, 0);
  int is_new = !entry;
  if (is_new) entry = entry_of(info.st_ino, 1);
  content_path(info.st_ino, content);
  if (created || (is_new && access(content, F_OK))) {
    fresh_content(info.st_ino);
    entry->by_stdio = 0;
    add(entry, 0, INT64_MAX);
  }
  if (emptied || by_stdio) add(entry, 0, INT64_MAX);
  if (by_stdio) entry->by_stdio = 1;
  unlock();
}

/* The entry of an open file of the folder that is known, else NULL. */
static struct entry *known(int fd, struct stat *info) {
  if (!table || fstat(fd, info) || !S_ISREG(info->st_mode) || info->st_dev != device) return NULL;
  return entry_of(info->st_ino, 0);
}

static void copy(int from, int to, int64_t start, int64_t end) {
  char buffer[1 << 15];
  while (start < end) {
    size_t want = end - start < (int64_t)sizeof buffer ? (size_t)(end - start) : sizeof buffer;
    ssize_t got = pread(from, buffer, want, start);
    if (got < 0) die("reading what was written");
    if (!got) return;
    if (REAL(pwrite)(to, buffer, got, start) != got) die("keeping what was synced");
    start += got;
  }
}

/* What was written to the file becomes durable. */
static void keep(int fd) {
  char path[PATH_MAX + 32], link[32];
  struct stat info;
  struct entry *entry = known(fd, &info);
  if (!entry) {
    opened(fd, 0, 1, 0);
    if (!(entry = known(fd, &info))) return;
  }
  lock();
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  content_path(info.st_ino, path);
  int from = REAL(open)(link, O_RDONLY | O_CLOEXEC), to = REAL(open)(path, O_RDWR | O_CLOEXEC);
  if (from < 0 || to < 0 || fstat(from, &info)) die(path);
  if (REAL(ftruncate)(to, info.st_size)) die(path);
  int64_t end = entry->by_stdio || entry->to > info.st_size ? info.st_size : entry->to;
  copy(from, to, entry->by_stdio ? 0 : entry->from, end);
  close(from);
  close(to);
  entry->from = INT64_MAX;
  entry->to = 0;
  unlock();
}

static void remove_all(const char *path) {
  struct stat info;
  if (lstat(path, &info)) return;
  DIR *dir = S_ISDIR(info.st_mode) ? opendir(path) : NULL;
  if (!dir) {
    REAL(unlink)(path);
    return;
  }
  for (struct dirent *item; (item = readdir(dir));) {
    char below[2 * PATH_MAX];
    if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, "..")) continue;
    snprintf(below, sizeof below, "%s/%s", path, item->d_name);
    remove_all(below);
  }
  closedir(dir);
  rmdir(path);
}

static void make_folders(char *path) {
  for (char *slash = path + strlen(state) + 1; (slash = strchr(slash, '/')); slash++) {
    *slash = 0;
    mkdir(path, 0777);
    *slash = '/';
  }
  mkdir(path, 0777);
}

/* One name of a directory becomes durable. The lock is held. */
static void keep_name(const char *path, const char *kept) {
  char content[PATH_MAX + 32], other[2 * PATH_MAX], target[PATH_MAX];
  struct stat info, now, was;
  if (lstat(path, &info)) return;
  if (S_ISDIR(info.st_mode)) {
    mkdir(kept, 0777);
  } else if (S_ISLNK(info.st_mode)) {
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) return;
    target[length] = 0;
    REAL(unlink)(kept);
    if (symlink(target, kept)) die(kept);
  } else if (S_ISREG(info.st_mode)) {
    content_path(info.st_ino, content);
    if (stat(content, &now)) {
      fresh_content(info.st_ino);
      add(entry_of(info.st_ino, 1), 0, INT64_MAX);
      if (stat(content, &now)) die(content);
    }
    if (!lstat(kept, &was) && was.st_ino == now.st_ino) return;
    snprintf(other, sizeof other, "%s/linking", state);
    REAL(unlink)(other);
    if (link(content, other) || rename(other, kept)) die(kept);
  }
}

/* The names in a directory become durable, and those gone from it are gone. */
static void keep_names(const char *path) {
  char kept[2 * PATH_MAX], a[2 * PATH_MAX], b[3 * PATH_MAX];
  struct stat info;
  snprintf(kept, sizeof kept, "%s/tree%s", state, path + folder_length);
  lock();
  make_folders(kept);
  DIR *dir = opendir(path);
  if (!dir) die(path);
  for (struct dirent *item; (item = readdir(dir));) {
    if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, "..")) continue;
    snprintf(a, sizeof a, "%s/%s", path, item->d_name);
    snprintf(b, sizeof b, "%s/%s", kept, item->d_name);
    keep_name(a, b);
  }
  closedir(dir);
  if (!(dir = opendir(kept))) die(kept);
  for (struct dirent *item; (item = readdir(dir));) {
    snprintf(a, sizeof a, "%s/%s", path, item->d_name);
    snprintf(b, sizeof b, "%s/%s", kept, item->d_name);
    if (lstat(a, &info) && errno == ENOENT) remove_all(b);
  }
  closedir(dir);
  unlock();
}

static int synced(int fd, int (*real)(int)) {
  char path[PATH_MAX];
  struct stat info;
  if (!table || !path_of(fd, path) || fstat(fd, &info)) return real(fd);
  int is_folder = S_ISDIR(info.st_mode);
  if (fails(is_folder ? DIRSYNC : FSYNC)) {
    struct entry *entry = is_folder ? NULL : known(fd, &info);
    if (entry) {
      lock();
      entry->from = INT64_MAX;
      entry->to = 0;
      unlock();
    }
    return -1;
  }
  int result = real(fd);
  if (result) return result;
  if (is_folder)
    keep_names(path);
  else
    keep(fd);
  return !is_folder && fails(SYNCED) ? -1 : 0;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

/* --- writing ------------------------------------------------------------------------------------------------------ */

/* True if a write to this file has to fail, with errno set. */
static int write_fails(int fd) {
  struct stat info;
  return table && fail_event == WRITE && known(fd, &info) && fails(WRITE);
}

static ssize_t wrote(int fd, ssize_t n, int64_t at) {
  struct stat info;
  int error = errno;
  struct entry *entry = n > 0 ? known(fd, &info) : NULL;
  if (entry) {
    int64_t start = at >= 0 ? at : lseek(fd, 0, SEEK_CUR) - n;
    lock();
    add(entry, start, start + n);
    unlock();
    if (fcntl(fd, F_GETFL) & O_DSYNC) keep(fd);
  }
  errno = error;
  return n;
}

ssize_t write(int fd, const void *data, size_t n) {
  return write_fails(fd) ? -1 : wrote(fd, REAL(write)(fd, data, n), -1);
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
  return write_fails(fd) ? -1 : wrote(fd, REAL(pwrite)(fd, data, n, at), at);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
  return write_fails(fd) ? -1 : wrote(fd, REAL(pwrite64)(fd, data, n, at), at);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
  return write_fails(fd) ? -1 : wrote(fd, REAL(writev)(fd, parts, n), -1);
}
ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t at) {
  return write_fails(fd) ? -1 : wrote(fd, REAL(pwritev)(fd, parts, n, at), at);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int n, off64_t at) {
  return write_fails(fd) ? -1 : wrote(fd, REAL(pwritev64)(fd, parts, n, at), at);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int n, off_t at, int flags) {
  return write_fails(fd) ? -1 : wrote(fd, REAL(pwritev2)(fd, parts, n, at, flags), at);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int n, off64_t at, int flags) {
  return write_fails(fd) ? -1 : wrote(fd, REAL(pwritev64v2)(fd, parts, n, at, flags), at);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t n) {
  return write_fails(to) ? -1 : wrote(to, REAL(sendfile64)(to, from, at, n), -1);
}
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t n, unsigned flags) {
  int64_t start = to_at ? *to_at : -1;
  return write_fails(to) ? -1 : wrote(to, REAL(copy_file_range)(from, at, to, to_at, n, flags), start);
}

/* The length changed: everything between the two lengths is news. */
static int resized(int fd, int result) {
  struct stat info;
  struct entry *entry = result ? NULL : known(fd, &info);
  if (entry) {
    lock();
    add(entry, 0, INT64_MAX);
    unlock();
  }
  return result;
}

int ftruncate(int fd, off_t length) { return write_fails(fd) ? -1 : resized(fd, REAL(ftruncate)(fd, length)); }
int ftruncate64(int fd, off64_t length) { return write_fails(fd) ? -1 : resized(fd, REAL(ftruncate64)(fd, length)); }
int fallocate(int fd, int mode, off_t at, off_t n) { return resized(fd, REAL(fallocate)(fd, mode, at, n)); }
int fallocate64(int fd, int mode, off64_t at, off64_t n) { return resized(fd, REAL(fallocate64)(fd, mode, at, n)); }
int posix_fallocate(int fd, off_t at, off_t n) { return resized(fd, REAL(posix_fallocate)(fd, at, n)); }
int posix_fallocate64(int fd, off64_t at, off64_t n) { return resized(fd, REAL(posix_fallocate64)(fd, at, n)); }

int truncate(const char *path, off_t length) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int result = ftruncate(fd, length), error = errno;
  close(fd);
  errno = error;
  return result;
}
int truncate64(const char *path, off64_t length) { return truncate(path, length); }

int unlink(const char *path) {
  if (table && fail_event == UNLINK && inside(path) && fails(UNLINK)) return -1;
  return REAL(unlink)(path);
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

/* An inode's number is used again after its file is gone, so a new file must be told from a known one. The check and
   the opening are two steps: two processes that make the same file in the same microsecond are not told apart. */
static int open_any(int at, const char *path, int flags, mode_t mode) {
  struct stat info;
  int made = table && (flags & O_CREAT) && fstatat(at, path, &info, 0) && errno == ENOENT;
  int fd = REAL(openat)(at, path, flags, mode);
  int error = errno;
  if (table && fd >= 0 && (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH)) opened(fd, made, flags & O_TRUNC, 0);
  errno = error;
  return fd;
}

#define MODE(flags)                                                   \
  ({                                                                  \
    mode_t mode_ = 0;                                                 \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                            \
      va_list rest;                                                   \
      va_start(rest, flags);                                          \
      mode_ = va_arg(rest, mode_t);                                   \
      va_end(rest);                                                   \
    }                                                                 \
    mode_;                                                            \
  })

int open(const char *path, int flags, ...) { return open_any(AT_FDCWD, path, flags, MODE(flags)); }
int open64(const char *path, int flags, ...) { return open_any(AT_FDCWD, path, flags, MODE(flags)); }
int openat(int at, const char *path, int flags, ...) { return open_any(at, path, flags, MODE(flags)); }
int openat64(int at, const char *path, int flags, ...) { return open_any(at, path, flags, MODE(flags)); }
int __open_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return open_any(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return open_any(at, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static FILE *stdio(const char *path, const char *mode, FILE *(*real)(const char *, const char *)) {
  struct stat info;
  int writes = strpbrk(mode, "wa+") != NULL, made = writes && stat(path, &info) && errno == ENOENT;
  FILE *file = real(path, mode);
  if (table && file && writes) opened(fileno(file), made, 0, 1);
  return file;
}
FILE *fopen(const char *path, const char *mode) { return stdio(path, mode, REAL(fopen)); }
FILE *fopen64(const char *path, const char *mode) { return stdio(path, mode, REAL(fopen64)); }
