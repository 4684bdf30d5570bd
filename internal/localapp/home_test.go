package localapp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLockOutlivesItsServerBriefly: a server killed between fork and exec leaves
// its lock to the child for a moment; the next server waits for that.
func TestLockOutlivesItsServerBriefly(t *testing.T) {
	h := Home(t.TempDir())
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(h.path("gust.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, dead.Process.Pid)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(5*lockPause, func() { f.Close() })
	l, err := h.Lock()
	if err != nil {
		t.Fatalf("the lock of a dead server: %v", err)
	}
	defer l.Release()
	if _, err := h.Lock(); !errors.Is(err, ErrInUse) {
		t.Errorf("the lock of a server that lives: %v", err)
	}
}
