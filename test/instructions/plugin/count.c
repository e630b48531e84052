/*
 * A plugin for QEMU's user mode that counts how often each block of
 * instructions runs, and each system call is made, in a file that may be read
 * meanwhile. Only what every version of the plugin interface has is used, and
 * declared here: few systems install QEMU's header.
 */
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned int, void *), int flags, void *);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t,
	void (*)(qemu_plugin_id_t, unsigned int, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = API;

enum { CALLS = 512, BLOCKS = 1 << 18 };

/* What the file holds; table.go reads it. */
struct block { uint64_t pc, bytes, instructions, runs; };
static struct {
	uint64_t used; /* blocks; more than BLOCKS: that many were lost */
	uint64_t calls[CALLS];
	struct block blocks[BLOCKS];
} *table;

static void runs(unsigned int cpu, void *block) {
	__atomic_fetch_add(&((struct block *)block)->runs, 1, __ATOMIC_RELAXED);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
	uint64_t i = __atomic_fetch_add(&table->used, 1, __ATOMIC_RELAXED);
	if (i >= BLOCKS)
		return;
	table->blocks[i].pc = qemu_plugin_tb_vaddr(tb);
	size_t n = qemu_plugin_tb_n_insns(tb);
	table->blocks[i].instructions = n;
	for (size_t at = 0; at < n; at++)
		table->blocks[i].bytes += qemu_plugin_insn_size(qemu_plugin_tb_get_insn(tb, at));
	qemu_plugin_register_vcpu_tb_exec_cb(tb, runs, 0, &table->blocks[i]);
}

/*
 * What the process finds when it looks for events would depend on how fast
 * its peers are. So time stands still here until one of them has sent something,
 * or a while has passed in which none did.
 */
static void await(int epoll) {
	struct pollfd p = {.fd = epoll, .events = POLLIN};
	poll(&p, 1, 200);
}

static void called(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
	if (number >= 0 && number < CALLS)
		__atomic_fetch_add(&table->calls[number], 1, __ATOMIC_RELAXED);
	if (number == SYS_epoll_pwait)
		await(a);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
	if (argc != 1 || strncmp(argv[0], "out=", 4) != 0)
		return 1;
	int fd = open(argv[0] + 4, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof *table) != 0)
		return 1;
	table = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (table == MAP_FAILED)
		return 1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_vcpu_syscall_cb(id, called);
	return 0;
}
