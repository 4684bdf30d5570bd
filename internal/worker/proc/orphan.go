package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Orphan is a process left behind by a worker that ended.
type Orphan struct {
	PID, PGID int
	// Started tells this process from a later one with the same PID; its form
	// depends on the system.
	Started string
	// Dispatch is the value of EnvDispatch.
	Dispatch string
}

// FindOrphans returns the processes of this user that carry the marker of the
// installation, by PID. A server calls it before it starts its first task;
// whatever it finds then belongs to a predecessor.
func FindOrphans(installation string) ([]Orphan, error) {
	out, err := scan(installation)
	if err != nil {
		return nil, fmt.Errorf("look for processes of an earlier server: %w", err)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].PID < out[j].PID })
	return out, nil
}

// KillOrphan ends an orphan and its process group: SIGTERM, then SIGKILL after
// grace. It does nothing if the process has ended, also when its PID was given
// to another one since.
func KillOrphan(o Orphan, grace time.Duration) error {
	if !alive(o) {
		return nil
	}
	target := o.PID
	if o.PGID > 1 && o.PGID != syscall.Getpgrp() && leads(o) {
		target = -o.PGID
	}
	if err := syscall.Kill(target, syscall.SIGTERM); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("end process %d of dispatch %s: %w", o.PID, o.Dispatch, err)
	}
	for wait := 5 * time.Millisecond; grace > 0 && alive(o); wait *= 2 {
		wait = min(wait, grace, 250*time.Millisecond)
		time.Sleep(wait)
		grace -= wait
	}
	if err := syscall.Kill(target, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("kill process %d of dispatch %s: %w", o.PID, o.Dispatch, err)
	}
	return nil
}

// EndOrphans ends all processes that FindOrphans finds, at the same time, and
// returns them. Errors are joined.
func EndOrphans(installation string, grace time.Duration) ([]Orphan, error) {
	found, err := FindOrphans(installation)
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(found))
	var wg sync.WaitGroup
	for i, o := range found {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = KillOrphan(o, grace)
		}()
	}
	wg.Wait()
	return found, errors.Join(errs...)
}

func alive(o Orphan) bool {
	_, started, err := stat(o.PID)
	return err == nil && started == o.Started
}

func marks(env []string) (dispatch, installation string) {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, EnvDispatch+"="); ok {
			dispatch = v
		}
		if v, ok := strings.CutPrefix(kv, EnvInstallation+"="); ok {
			installation = v
		}
	}
	return dispatch, installation
}

// scanPS is the portable search: ps shows the environment of the user's own
// processes after their arguments.
func scanPS(installation string) ([]Orphan, error) {
	out, err := exec.Command("ps", "axeww", "-o", "pid=,pgid=,lstart=,command=").Output()
	if err != nil {
		return nil, fmt.Errorf("ps: %w", err)
	}
	var found []Orphan
	for line := range strings.SplitSeq(string(out), "\n") {
		f := strings.Fields(line)
		if len(f) < 8 { // pid, pgid, 5 words of time, command
			continue
		}
		dispatch, inst := marks(f[7:])
		if dispatch == "" || inst != installation {
			continue
		}
		pid, err1 := strconv.Atoi(f[0])
		pgid, err2 := strconv.Atoi(f[1])
		if err1 == nil && err2 == nil && pid != os.Getpid() {
			found = append(found, Orphan{PID: pid, PGID: pgid, Started: strings.Join(f[2:7], " "), Dispatch: dispatch})
		}
	}
	return found, nil
}

func statPS(pid int) (pgid int, started string, err error) {
	out, err := exec.Command("ps", "-o", "stat=,pgid=,lstart=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0, "", err
	}
	f := strings.Fields(string(out))
	if len(f) < 7 || strings.HasPrefix(f[0], "Z") {
		return 0, "", fmt.Errorf("process %d has ended", pid)
	}
	pgid, err = strconv.Atoi(f[1])
	return pgid, strings.Join(f[2:7], " "), err
}
