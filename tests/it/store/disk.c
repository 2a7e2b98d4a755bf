/* A disk that tells everything: preloaded into a program, it writes down what the program does to the files of one
 * folder, in order, so that the tests can work out what a power cut at any moment would have left (disk.rs).
 *
 * Syncs are not passed on: this is the disk, and a killed process leaves what it wrote to the system anyway. Files
 * whose name ends in "-shm" are memory that processes share, not data, and are not followed.
 *
 *   OPTGATE_DISK_FOLDER    the folder, as the program names it
 *   OPTGATE_DISK_LOG       where the log is appended
 *   OPTGATE_DISK_FAIL      optional, "FIRST:COUNT:ENDING": of the syncs of files with that ending, COUNT fail (EIO),
 *                          beginning with number FIRST
 *   OPTGATE_DISK_READ_ONLY optional, a file: while it exists the disk is read-only (EROFS)
 *   OPTGATE_DISK_HANG      optional, a file: while it exists no sync ends
 *
 * A record of the log is a head and then `length` bytes; the writer of a record holds the lock, so that the order of
 * the log is the order of things. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, CLOSE, WRITE, TRUNCATE, SYNC, SYNC_FAILED, UNLINK, RENAME, MKDIR, SAY };
enum { CREATED = 1, EMPTIED = 2, FOLDER = 4 };
enum { FILES = 4096, NAME = 512 };

struct head {
    uint32_t op;
    int32_t fd;
    uint64_t at, length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[NAME], ending[64];
static const char *read_only, *hang;
static size_t root_length;
static long fail_first, fail_count, syncs;
static int log_fd = -1;
static char names[FILES][NAME]; /* of followed descriptors; a followed root is "." */

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static int (*real_ftruncate)(int, off64_t);
static int (*real_fsync)(int);
static int (*real_unlink)(const char *);
static int (*real_rename)(const char *, const char *);
static int (*real_mkdir)(const char *, mode_t);

static void die(const char *why) {
    perror(why);
    abort();
}

__attribute__((constructor)) static void begin(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    const char *folder = getenv("OPTGATE_DISK_FOLDER"), *log = getenv("OPTGATE_DISK_LOG");
    const char *fail = getenv("OPTGATE_DISK_FAIL");
    if (!folder || !log)
        return;
    read_only = getenv("OPTGATE_DISK_READ_ONLY");
    hang = getenv("OPTGATE_DISK_HANG");
    root_length = strlen(folder);
    if (root_length >= NAME)
        die("the folder's name is too long");
    strcpy(root, folder);
    if (fail && sscanf(fail, "%ld:%ld:%63s", &fail_first, &fail_count, ending) < 2)
        die("OPTGATE_DISK_FAIL");
    log_fd = real_open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0)
        die(log);
}

/* The name below the folder, or NULL when the path is not followed. */
static const char *below(const char *path) {
    if (log_fd < 0 || !path || strncmp(path, root, root_length))
        return NULL;
    size_t length = strlen(path);
    if (length > 4 && !strcmp(path + length - 4, "-shm"))
        return NULL;
    if (!path[root_length] || !strcmp(path + root_length, "/"))
        return ".";
    return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

static int followed(int fd) {
    return fd >= 0 && fd < FILES && names[fd][0];
}

static int ends_with(const char *name, const char *end) {
    size_t length = strlen(name), wanted = strlen(end);
    return length >= wanted && !strcmp(name + length - wanted, end);
}

static int refused(void) {
    if (!read_only || access(read_only, F_OK))
        return 0;
    errno = EROFS;
    return 1;
}

static void note(uint32_t op, int fd, uint64_t at, const void *bytes, size_t length) {
    struct head head = {op, fd, at, length};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)bytes, length}};
    int kept = errno;
    if (real_writev(log_fd, parts, 2) != (ssize_t)(sizeof head + length))
        die("the log of the disk");
    errno = kept;
}

static int open_any(int at, const char *path, int flags, mode_t mode) {
    const char *name = at == AT_FDCWD || (path && path[0] == '/') ? below(path) : NULL;
    if (!name) {
        static int (*real_openat)(int, const char *, int, ...);
        if (!real_openat)
            real_openat = dlsym(RTLD_NEXT, "openat64");
        return real_openat(at, path, flags, mode);
    }
    if ((flags & (O_ACCMODE | O_CREAT | O_TRUNC)) && refused())
        return -1;
    pthread_mutex_lock(&lock);
    int is_new = (flags & O_CREAT) && access(path, F_OK) != 0;
    int fd = real_open(path, flags, mode);
    if (fd >= FILES || (fd >= 0 && strlen(name) >= NAME))
        die("too many descriptors, or too long a name");
    if (fd >= 0) {
        struct stat status;
        uint64_t what = (is_new ? CREATED : 0) | (flags & O_TRUNC ? EMPTIED : 0);
        if (!fstat(fd, &status) && S_ISDIR(status.st_mode))
            what |= FOLDER;
        strcpy(names[fd], name);
        note(OPEN, fd, what, name, strlen(name));
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE_OF(flags, mode) \
    do { \
        va_list rest; \
        va_start(rest, flags); \
        if ((flags) & (O_CREAT | O_TMPFILE)) \
            mode = va_arg(rest, mode_t); \
        va_end(rest); \
    } while (0)

int open(const char *path, int flags, ...) {
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return open_any(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return open_any(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int at, const char *path, int flags, ...) {
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return open_any(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return open_any(at, path, flags | O_LARGEFILE, mode);
}

int close(int fd) {
    if (!followed(fd))
        return real_close(fd);
    pthread_mutex_lock(&lock);
    note(CLOSE, fd, 0, "", 0);
    names[fd][0] = 0;
    int result = real_close(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (log_fd < 0 || (fd != STDOUT_FILENO && !followed(fd)))
        return real_write(fd, bytes, length);
    if (fd != STDOUT_FILENO && refused())
        return -1;
    pthread_mutex_lock(&lock);
    ssize_t written;
    if (fd == STDOUT_FILENO) {
        /* First written down, then said: who hears it finds it in the log. */
        note(SAY, fd, 0, bytes, length);
        written = real_write(fd, bytes, length);
    } else {
        int end = fcntl(fd, F_GETFL) & O_APPEND;
        off64_t at = lseek64(fd, 0, end ? SEEK_END : SEEK_CUR);
        written = real_write(fd, bytes, length);
        if (written > 0)
            note(WRITE, fd, at, bytes, written);
    }
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    if (!followed(fd))
        return real_pwrite(fd, bytes, length, at);
    if (refused())
        return -1;
    pthread_mutex_lock(&lock);
    ssize_t written = real_pwrite(fd, bytes, length, at);
    if (written > 0)
        note(WRITE, fd, at, bytes, written);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return pwrite64(fd, bytes, length, at);
}

/* What nobody here uses on a file of the folder ends the program, rather than pass unseen. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (followed(fd))
        die("writev is not followed");
    return real_writev(fd, parts, count);
}

int ftruncate64(int fd, off64_t length) {
    if (!followed(fd))
        return real_ftruncate(fd, length);
    if (refused())
        return -1;
    pthread_mutex_lock(&lock);
    int result = real_ftruncate(fd, length);
    if (!result)
        note(TRUNCATE, fd, length, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

int fsync(int fd) {
    if (!followed(fd))
        return real_fsync(fd);
    while (hang && !access(hang, F_OK))
        usleep(1000);
    pthread_mutex_lock(&lock);
    int result = 0;
    if (fail_count && ends_with(names[fd], ending)) {
        syncs++;
        if (syncs >= fail_first && syncs - fail_first < fail_count)
            result = -1;
    }
    note(result ? SYNC_FAILED : SYNC, fd, 0, "", 0);
    pthread_mutex_unlock(&lock);
    if (result)
        errno = EIO;
    return result;
}

int fdatasync(int fd) {
    return fsync(fd);
}

int unlink(const char *path) {
    const char *name = below(path);
    if (!name)
        return real_unlink(path);
    if (refused())
        return -1;
    pthread_mutex_lock(&lock);
    int result = real_unlink(path);
    if (!result)
        note(UNLINK, -1, 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to) {
    const char *old = below(from), *new = below(to);
    if (!old && !new)
        return real_rename(from, to);
    if (refused())
        return -1;
    if (!old || !new)
        die("a file is moved out of the folder or into it");
    pthread_mutex_lock(&lock);
    int result = real_rename(from, to);
    if (!result) {
        char both[2 * NAME + 1];
        int length = snprintf(both, sizeof both, "%s/%s", old, new);
        both[strlen(old)] = '\0';
        note(RENAME, -1, 0, both, length);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    const char *name = below(path);
    if (!name)
        return real_mkdir(path, mode);
    if (refused())
        return -1;
    pthread_mutex_lock(&lock);
    int result = real_mkdir(path, mode);
    if (!result)
        note(MKDIR, -1, 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
    return result;
}
