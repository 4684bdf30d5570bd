package crash

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	nFlag    = flag.Int("n", 3, "how often the server is killed")
	seedFlag = flag.Uint64("seed", 1, "of the moments at which it is killed")
)

// dagFile is the DAG: a chain into a fan, a mapped task and a join. Each task
// writes a line as it starts, then takes a moment. Retries are plenty: a task that
// dies with its server is a failed try.
const dagFile = `crash:
  schedule: null
  start_date: 2025-01-01
  is_paused_upon_creation: false
  max_active_runs: 4
  default_args: {retries: 1000, retry_delay: {__type__: datetime.timedelta, milliseconds: 50}}
  tasks:
    - {task_id: first, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: &body 'echo "$AIRFLOW_CTX_DAG_RUN_ID {{ ti.task_id }} {{ ti.map_index }} $AIRFLOW_CTX_TRY_NUMBER" >> "$CRASH_OUT"; sleep 0.0$((RANDOM % 10)); echo done'}
    - {task_id: second, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: *body, dependencies: [first]}
    - {task_id: left, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: *body, dependencies: [second]}
    - {task_id: right, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: *body, dependencies: [second]}
    - task_id: mapped
      operator: airflow.providers.standard.operators.bash.BashOperator
      partial: {bash_command: *body}
      expand: {env: [{A: "1"}, {A: "2"}, {A: "3"}]}
      dependencies: [second]
    - {task_id: last, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: *body, dependencies: [left, right, mapped]}
`

// upstream is the order that lines must keep.
var upstream = map[string][]string{"second": {"first"}, "left": {"second"}, "right": {"second"}, "mapped": {"second"}, "last": {"left", "right", "mapped"}}

// site is a home with its server.
type site struct {
	t         *testing.T
	bin, home string
	dags, out string
	server    *exec.Cmd
	log       *bytes.Buffer
}

// start runs the server and waits until it says that it is ready.
func (s *site) start() {
	s.t.Helper()
	s.log = &bytes.Buffer{}
	s.server = exec.Command(s.bin, "standalone", "--home", s.home, "--dags-folder", s.dags, "--host", "127.0.0.1", "--port", "0")
	s.server.Env = append(os.Environ(), "CRASH_OUT="+s.out)
	s.server.Stderr = s.log
	stdout, err := s.server.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.server.Start(); err != nil {
		s.t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func() {
		in := bufio.NewScanner(stdout)
		for in.Scan() {
			if strings.Contains(in.Text(), " is ready") {
				ready <- true
			}
		}
		ready <- false
	}()
	select {
	case ok := <-ready:
		if !ok {
			_ = s.server.Wait()
			s.t.Fatalf("the server did not start:\n%s", s.log)
		}
	case <-time.After(60 * time.Second):
		s.kill()
		s.t.Fatalf("the server was not ready after a minute:\n%s", s.log)
	}
}

// kill ends the server as nothing can be prepared for.
func (s *site) kill() {
	_ = s.server.Process.Signal(syscall.SIGKILL)
	_ = s.server.Wait()
}

// gust runs a command beside the server.
func (s *site) gust(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, s.bin, append(args, "--home", s.home, "-o", "json")...)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("gust %s: %w: %s%s", strings.Join(args, " "), err, out, errs.Bytes())
	}
	return out, err
}

// line is one start of a task.
type line struct {
	run, task string
	index     int
	try       int
	at        int // position in the file
}

func (s *site) lines() (out []line) {
	b, err := os.ReadFile(s.out)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	for i, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		f := strings.Fields(l)
		if len(f) != 4 {
			s.t.Fatalf("line %d of the tasks' file: %q", i+1, l)
		}
		index, err1 := strconv.Atoi(f[2])
		try, err2 := strconv.Atoi(f[3])
		if err1 != nil || err2 != nil {
			s.t.Fatalf("line %d of the tasks' file: %q", i+1, l)
		}
		out = append(out, line{f[0], f[1], index, try, i})
	}
	return out
}

// TestKill9 kills the server -n times while runs are triggered and under way.
func TestKill9(t *testing.T) {
	bin, err := filepath.Abs("../../../bin/gust")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Skip("bin/gust is not built: make build (make crash does)")
	}
	dir := t.TempDir()
	s := &site{t: t, bin: bin, home: filepath.Join(dir, "home"), dags: filepath.Join(dir, "dags"), out: filepath.Join(dir, "starts")}
	if err := os.Mkdir(s.dags, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dags, "crash.yml"), []byte(dagFile), 0o644); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(*seedFlag, 9))
	accepted := map[string]bool{}
	asked := 0
	for round := range *nFlag {
		s.start()
		done := make(chan struct{})
		go func() { // runs are asked for until the server is gone
			defer close(done)
			for range 1 + round%3 {
				id := fmt.Sprintf("run%d", asked)
				asked++
				if _, err := s.gust("dags", "trigger", "crash", "--run-id", id); err == nil {
					accepted[id] = true
				}
			}
		}()
		time.Sleep(time.Duration(10+rng.IntN(900)) * time.Millisecond)
		s.kill()
		<-done
	}
	s.start()
	defer s.kill()
	states := map[string]string{}
	for end := time.Now().Add(2*time.Minute + time.Duration(*nFlag)*2*time.Second); ; time.Sleep(300 * time.Millisecond) {
		out, err := s.gust("dags", "list-runs", "crash")
		if err != nil {
			t.Fatal(err)
		}
		var runs []struct {
			RunID string `json:"run_id"`
			State string `json:"state"`
		}
		if err := json.Unmarshal(out, &runs); err != nil {
			t.Fatalf("list-runs: %v: %s", err, out)
		}
		open := 0
		for _, r := range runs {
			states[r.RunID] = r.State
			if r.State != "success" && r.State != "failed" {
				open++
			}
		}
		if open == 0 {
			break
		}
		if time.Now().After(end) {
			why, _ := s.gust("explain", "crash")
			t.Fatalf("%d runs do not end: %v\n%s\n%s", open, states, why, s.log)
		}
	}
	for id := range accepted {
		if states[id] == "" {
			t.Errorf("run %s was accepted and is lost", id)
		}
	}
	s.check(states)
	t.Logf("killed %d times: %d runs accepted, %d finished, %d starts of tasks", *nFlag, len(accepted), len(states), len(s.lines()))
}

// check compares what the tasks wrote with what the server says of them.
func (s *site) check(states map[string]string) {
	t := s.t
	type start struct {
		run, task string
		index     int
	}
	starts := map[start][]line{}
	doubled := map[string]bool{}
	for _, l := range s.lines() {
		key := fmt.Sprintf("%s/%s[%d] try %d", l.run, l.task, l.index, l.try)
		if doubled[key] {
			t.Errorf("%s started twice", key)
		}
		doubled[key] = true
		k := start{l.run, l.task, l.index}
		starts[k] = append(starts[k], l)
	}
	ids := make([]string, 0, len(states))
	for id := range states {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for _, id := range ids {
		if states[id] != "success" {
			t.Errorf("run %s is %s", id, states[id])
			continue
		}
		for _, task := range []string{"first", "second", "left", "right", "mapped", "last"} {
			indexes := []int{-1}
			if task == "mapped" {
				indexes = []int{0, 1, 2}
			}
			for _, i := range indexes {
				ls := starts[start{id, task, i}]
				if len(ls) == 0 {
					t.Errorf("%s/%s[%d] succeeded and never started", id, task, i)
					continue
				}
				for n := 1; n < len(ls); n++ {
					if ls[n].try <= ls[n-1].try {
						t.Errorf("%s/%s[%d]: try %d started after try %d", id, task, i, ls[n].try, ls[n-1].try)
					}
				}
				// Nothing begins before what is above it has ended for good.
				for _, up := range upstream[task] {
					for _, ui := range []int{-1, 0, 1, 2} {
						for _, u := range starts[start{id, up, ui}] {
							if u.at > ls[0].at {
								t.Errorf("%s/%s[%d] began although %s[%d] was to start again (try %d)", id, task, i, up, ui, u.try)
							}
						}
					}
				}
			}
		}
	}
}
