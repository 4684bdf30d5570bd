package dynamotest

import (
	"os/exec"
	"syscall"
)

// mortal returns a command that dies with this process, even when that is killed.
func mortal(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
