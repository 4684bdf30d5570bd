//go:build !linux

package dynamotest

import (
	"os"
	"os/exec"
)

// mortal returns a command that dies with this process, even when that is killed: a shell kills it when the pipe that
// this process holds open breaks.
func mortal(name string, args ...string) *exec.Cmd {
	const script = `"$@" & child=$!; (cat >/dev/null; kill -9 $child) <&3 & wait $child`
	cmd := exec.Command("sh", append([]string{"-c", script, "sh", name}, args...)...)
	if r, w, err := os.Pipe(); err == nil {
		cmd.ExtraFiles = []*os.File{r} // descriptor 3 of the shell
		alive = w
	}
	return cmd
}

// alive is held until this process ends.
var alive *os.File
