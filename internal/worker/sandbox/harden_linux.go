package sandbox

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrCgo says that a program built with cgo cannot set something on all its
// threads; functions are built without.
var ErrCgo = errors.New("PR_SET_NO_NEW_PRIVS: this program was built with cgo")

// Protect makes this process unreadable for its children: no ptrace, no
// /proc/<pid>/environ, mem, maps or fd. Root and holders of CAP_SYS_PTRACE are
// not kept out.
func Protect() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_DUMPABLE: %w", err)
	}
	return nil
}

// Harden is Protect for a sandbox that runs one dispatch at a time: in addition
// children cannot gain rights by setuid programs, and processes that leave their
// group become this one's children, so that EndAll finds (and collects) them.
// Call it before the first child is started.
func Harden() error {
	errs := []error{Protect()}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		errs = append(errs, fmt.Errorf("PR_SET_CHILD_SUBREAPER: %w", err))
	}
	// This one belongs to the thread that asks, and any thread may fork.
	if _, _, e := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e == syscall.ENOTSUP {
		errs = append(errs, ErrCgo)
	} else if e != 0 {
		errs = append(errs, fmt.Errorf("PR_SET_NO_NEW_PRIVS: %w", e))
	}
	return errors.Join(errs...)
}
