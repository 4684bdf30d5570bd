package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// processes returns the pids of a function's execution environments on this deployment.
func (s *site) processes(t *testing.T, function string) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue // gone, or not ours
		}
		vars := map[string]bool{}
		for _, v := range bytes.Split(env, []byte{0}) {
			vars[string(v)] = true
		}
		if vars["AWS_LAMBDA_FUNCTION_NAME="+function] && vars["AWS_ENDPOINT_URL="+s.proxy.URL+"/~"+function] {
			pids = append(pids, pid)
		}
	}
	return pids
}

// workerOf returns the pid of the worker process above a task's process.
func (s *site) workerOf(t *testing.T, pid int) int {
	t.Helper()
	for p := pid; p > 1; p = parent(p) {
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p)); err == nil && strings.TrimSpace(string(comm)) == "gust-worker" {
			return p
		}
	}
	t.Fatalf("no gust-worker above process %d", pid)
	return 0
}

func parent(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for _, l := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(l, "PPid:"); ok {
			p, _ := strconv.Atoi(strings.TrimSpace(v))
			return p
		}
	}
	return 0
}

// pid reads a process id that a task wrote into the scratch folder, 0 while there is none.
func (s *site) pid(t *testing.T, name string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s.read(t, name)))
	if err != nil {
		return 0
	}
	return n
}

// kill sends a signal to a process that may have gone.
func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
		t.Fatalf("kill %d: %v", pid, err)
	}
}
