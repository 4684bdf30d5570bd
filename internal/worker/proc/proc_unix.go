//go:build unix

package proc

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

func signalGroup(pgid int, sig syscall.Signal) error {
	err := syscall.Kill(-pgid, sig)
	if errors.Is(err, syscall.EPERM) { // macOS: the group holds only zombies
		return nil
	}
	return err
}

func signalName(s syscall.Signal) string {
	if n := unix.SignalName(s); n != "" {
		return n
	}
	return s.String()
}
