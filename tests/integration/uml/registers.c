/*
 * Says "kept" if no system call, signal, fault or fork changes a register of floating point.
 * Threads and processes have values of their own in all of them whenever they enter the kernel.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define ALL(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
#define LOAD(n) "movdqa " #n "*16(%[before]),%%xmm" #n "\n"
#define STORE(n) "movdqa %%xmm" #n "," #n "*16(%[after])\n"

static long call(unsigned seed, long number, long first, long second, long third, const char *what)
{
	unsigned char before[16 * 16] __attribute__((aligned(16)));
	unsigned char after[16 * 16] __attribute__((aligned(16)));
	register long fourth asm("r10") = 0;
	long result;

	for (unsigned i = 0; i < sizeof(before); i++)
		before[i] = (seed = seed * 1103515245 + 12345) >> 16;
	asm volatile(ALL(LOAD) "syscall\n" ALL(STORE)
		     : "=a"(result)
		     : "a"(number), "D"(first), "S"(second), "d"(third), "r"(fourth),
		       [before] "r"(before), [after] "r"(after)
		     : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
		       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	if (memcmp(before, after, sizeof(before))) {
		dprintf(1, "changed by %s\n", what);
		_exit(1);
	}
	return result;
}

static void handle(int number)
{
	asm volatile("pcmpeqd %%xmm0,%%xmm0\n movdqa %%xmm0,%%xmm7\n movdqa %%xmm0,%%xmm15\n"
		     ::: "xmm0", "xmm7", "xmm15");
	getppid();
}

static int pipe_ends[2];

static void *work(void *number)
{
	unsigned seed = 7919 * (unsigned)(long)number;
	struct timespec moment = { 0, 20000 };

	for (int i = 0; i < 700; i++) {
		call(seed += 13, SYS_getppid, 0, 0, 0, "getppid");
		call(seed += 13, SYS_sched_yield, 0, 0, 0, "sched_yield");
		if (i % 3 == 0)
			call(seed += 13, SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1, "a signal");
		if (i % 7 == 0) {
			char *fresh = mmap(0, 16 * PAGE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			call(seed += 13, SYS_read, pipe_ends[0], (long)fresh + 3 * PAGE, 1, "a fault");
			call(seed += 13, SYS_munmap, (long)fresh, 16 * PAGE, 0, "munmap");
			call(seed += 13, SYS_write, pipe_ends[1], (long)"x", 1, "write");
		}
		if (i % 11 == 0)
			call(seed += 13, SYS_nanosleep, (long)&moment, 0, 0, "nanosleep");
	}
	return 0;
}

int main(void)
{
	struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART };
	struct itimerval often = { { 0, 900 }, { 0, 900 } };
	pthread_t threads[4];
	int status;

	sigaction(SIGUSR1, &action, 0);
	sigaction(SIGALRM, &action, 0);
	setitimer(ITIMER_REAL, &often, 0);
	if (pipe(pipe_ends) || write(pipe_ends[1], "xxxxxxxx", 8) != 8)
		return 2;
	for (long i = 0; i < 4; i++)
		pthread_create(&threads[i], 0, work, (void *)i);
	for (int i = 0; i < 40; i++) {
		long child = call(31 * i, SYS_fork, 0, 0, 0, "fork");

		if (child == 0) {
			call(i, SYS_getppid, 0, 0, 0, "getppid of a child");
			if (i % 3 == 0)
				execl("/bin/true", "true", NULL);
			_exit(0);
		}
		if (call(37 * i, SYS_wait4, child, (long)&status, 0, "wait4") != child || status)
			return 3;
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], 0);
	puts("kept");
	return 0;
}
