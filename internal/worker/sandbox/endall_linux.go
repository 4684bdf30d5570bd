package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrSurvivors says that processes of a task could not be ended: this process
// must not run another one.
var ErrSurvivors = errors.New("processes of a task could not be ended")

// EndAll kills all descendants of this process except those named in keep (their
// own children are killed too), and collects those that became its children. It
// returns when a look finds none, or ErrSurvivors after the time given. Call it
// when no child that matters is running. Harden must have been called, or
// descendants that daemonised are not found.
//
// All are stopped before any is killed, so that none can start another one
// unseen meanwhile.
func EndAll(keep []int, within time.Duration) error {
	deadline := time.Now().Add(within)
	stopped := map[int]bool{}
	for clean, wait := 0, time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		all, zombies, err := descendants(keep)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSurvivors, err)
		}
		for _, pid := range zombies {
			var ws syscall.WaitStatus
			// Only orphans that this process inherited; those that a goroutine
			// waits for are gone before they are seen here twice.
			_, _ = syscall.Wait4(pid, &ws, syscall.WNOHANG, nil)
		}
		if len(all) == 0 {
			// A second look: one may have been between its parent's end and its own listing.
			if clean++; clean == 2 {
				return nil
			}
			continue
		}
		clean = 0
		fresh := false
		for _, pid := range all {
			if !stopped[pid] {
				stopped[pid], fresh = true, true
				_ = syscall.Kill(pid, syscall.SIGSTOP) // it may have ended
			}
		}
		if fresh && time.Now().Before(deadline) {
			continue // those that were started before their parent stopped
		}
		for _, pid := range all {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if !time.Now().Before(deadline) {
			return fmt.Errorf("%w: %d are left, among them process %d", ErrSurvivors, len(all), all[0])
		}
		time.Sleep(wait)
	}
}

// descendants lists the living descendants that are not kept, and the zombies
// among the direct children.
func descendants(keep []int) (living, zombies []int, err error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, nil, err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, nil, err
	}
	self := os.Getpid()
	parent, dead := map[int]int{}, map[int]bool{}
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + n + "/stat")
		if err != nil {
			continue // ended meanwhile
		}
		// The name, in parentheses, may hold anything.
		i := bytes.LastIndexByte(b, ')')
		if i < 0 {
			continue
		}
		f := strings.Fields(string(b[i+1:]))
		if len(f) < 2 {
			continue
		}
		ppid, err := strconv.Atoi(f[1])
		if err != nil {
			continue
		}
		parent[pid] = ppid
		dead[pid] = f[0] == "Z" || f[0] == "X"
	}
	for pid := range parent {
		if pid == self {
			continue
		}
		below, p := false, pid
		for range len(parent) {
			if p = parent[p]; p == self || p <= 1 {
				below = p == self
				break
			}
		}
		switch {
		case !below || slices.Contains(keep, pid):
		case !dead[pid]:
			living = append(living, pid)
		case parent[pid] == self:
			zombies = append(zombies, pid)
		}
	}
	slices.Sort(living)
	return living, zombies, nil
}
