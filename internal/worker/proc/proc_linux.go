package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// sysProcAttr starts a session (no terminal, a group of its own) and has the
// kernel kill the child if the thread that started it ends. Go ends threads
// only with the process (or with a goroutine locked to one), so that is this
// server's death; what the child started meanwhile is found by FindOrphans.
func sysProcAttr(death syscall.Signal) *syscall.SysProcAttr {
	if death == 0 {
		death = syscall.SIGKILL
	}
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: death}
}

// oomFile finds the file with this cgroup's count of OOM kills once.
var oomFile = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
		p := strings.SplitN(line, ":", 3)
		if len(p) != 3 {
			continue
		}
		var dirs []string
		switch {
		case p[0] == "0":
			dirs = []string{filepath.Join("/sys/fs/cgroup", p[2], "memory.events"), "/sys/fs/cgroup/memory.events"}
		case p[1] == "memory":
			dirs = []string{filepath.Join("/sys/fs/cgroup/memory", p[2], "memory.oom_control"), "/sys/fs/cgroup/memory/memory.oom_control"}
		}
		for _, f := range dirs {
			if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte("oom_kill ")) {
				return f
			}
		}
	}
	return ""
})

// oomKills returns how often the kernel killed for memory in this cgroup.
func oomKills() int64 {
	f := oomFile()
	if f == "" {
		return 0
	}
	b, err := os.ReadFile(f)
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			v, _ := strconv.ParseInt(strings.TrimSpace(n), 10, 64) // unreadable counts as none
			return v
		}
	}
	return 0
}

// scan reads /proc: every process of this user with the marker.
func scan(installation string) ([]Orphan, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	self, uid := os.Getpid(), uint32(os.Getuid())
	var out []Orphan
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self {
			continue
		}
		if st, err := os.Stat("/proc/" + e.Name()); err != nil {
			continue
		} else if sys, ok := st.Sys().(*syscall.Stat_t); !ok || sys.Uid != uid {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil {
			continue // ended meanwhile, or not ours to read
		}
		dispatch, inst := marks(strings.Split(string(env), "\x00"))
		if dispatch == "" || inst != installation {
			continue
		}
		pgid, started, err := stat(pid)
		if err != nil {
			continue
		}
		out = append(out, Orphan{PID: pid, PGID: pgid, Started: started, Dispatch: dispatch})
	}
	return out, nil
}

// leads reports whether the orphan's process group is a task's: its leader is
// the orphan itself, carries the same dispatch, or has ended.
func leads(o Orphan) bool {
	if o.PID == o.PGID {
		return true
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", o.PGID))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	dispatch, _ := marks(strings.Split(string(env), "\x00"))
	return dispatch == o.Dispatch || len(env) == 0 // a zombie has no environment
}

// stat returns the group and the start time (clock ticks since boot) of a process.
func stat(pid int) (pgid int, started string, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", err
	}
	// The name, in parentheses, may hold blanks and parentheses.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, "", fmt.Errorf("/proc/%d/stat has an unexpected form", pid)
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 20 {
		return 0, "", fmt.Errorf("/proc/%d/stat has an unexpected form", pid)
	}
	if f[0] == "Z" {
		return 0, "", fmt.Errorf("process %d has ended", pid)
	}
	pgid, err = strconv.Atoi(f[2])
	return pgid, f[19], err
}

// marked returns the processes whose environment, as they were started, has the entry.
func marked(entry string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && slices.Contains(strings.Split(string(env), "\x00"), entry) {
			out = append(out, pid)
		}
	}
	return out
}
