//go:build linux

// Command coldstart measures how long the Lambda functions that `make lambdas` built
// take from exec to their first call of the Runtime API, as AWS starts them: alone,
// with the share of a CPU that their memory has (a cgroup, 20 ms periods), and with
// nothing of the executable in the page cache. It needs root and cgroups.
//
//	make lambdas ARCH=amd64 && go run ./bench/coldstart
//
// Figures of a machine that does other things too are too long: "CPU" is the time
// that the start computed, which others disturb less, and bounds it from below.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gustflow/gust/internal/awsenv"
)

// limit is what a start may take (issue 4).
const limit = 120 * time.Millisecond

func main() {
	dist := flag.String("dist", "dist", "folder of the functions")
	starts := flag.Int("starts", 15, "how often each is started")
	strict := flag.Bool("strict", false, "fail where the median is above the limit")
	only := flag.String("only", "", "one function")
	flag.Parse()
	if err := run(*dist, *only, *starts, *strict); err != nil {
		fmt.Fprintln(os.Stderr, "coldstart:", err)
		os.Exit(1)
	}
}

func run(dist, only string, starts int, strict bool) error {
	group, err := newGroup()
	if err != nil {
		return err
	}
	defer group.remove()
	fmt.Printf("%-14s %5s %6s %9s %8s %8s %8s %8s\n", "function", "MB", "vCPU", "binary", "least", "median", "most", "CPU")
	var late []string
	for _, f := range awsenv.Functions() {
		if only != "" && f != only {
			continue
		}
		path := filepath.Join(dist, f, "bootstrap")
		if f == awsenv.Worker {
			path = filepath.Join(dist, f, awsenv.WorkerBinary)
		}
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("%w; run `make lambdas ARCH=<this machine's>` first", err)
		}
		share := min(float64(awsenv.MemoryMB(f))/1769, float64(2))
		if err := group.quota(share); err != nil {
			return err
		}
		var walls, cpus []time.Duration
		for range starts {
			wall, cpu, err := start(path, f, group)
			if err != nil {
				return fmt.Errorf("%s: %w", f, err)
			}
			walls, cpus = append(walls, wall), append(cpus, cpu)
		}
		slices.Sort(walls)
		slices.Sort(cpus)
		median := walls[len(walls)/2]
		ms := func(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/1e6) }
		fmt.Printf("%-14s %5d %6.2f %6.1f MB %8s %8s %8s %8s\n", f, awsenv.MemoryMB(f), share, float64(info.Size())/(1<<20), ms(walls[0]), ms(median), ms(walls[len(walls)-1]), ms(cpus[len(cpus)/2]))
		if median > limit {
			late = append(late, f)
		}
	}
	if strict && len(late) > 0 {
		return fmt.Errorf("above %v: %s", limit, strings.Join(late, ", "))
	}
	return nil
}

// start runs a function once and returns the time from exec to its first poll, and
// what it computed until then.
func start(path, function string, g group) (wall, cpu time.Duration, err error) {
	if err := evict(path); err != nil {
		return 0, 0, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	polled := make(chan time.Time, 1)
	s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/invocation/next") {
			select {
			case polled <- time.Now():
			default:
			}
			<-r.Context().Done()
		}
	}), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	tmp, err := os.MkdirTemp("", "gust-coldstart-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(tmp)
	// The shell enters the group and becomes the function: its exec is counted too.
	cmd := exec.Command("/bin/sh", "-c", `echo $$ > "$0" && exec "$1"`, g.procs(), path)
	cmd.Env = append(environment(function), "AWS_LAMBDA_RUNTIME_API="+l.Addr().String(), "TMPDIR="+tmp, "LAMBDA_TASK_ROOT="+filepath.Dir(path))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case at := <-polled:
		wall = at.Sub(began)
	case err := <-ended:
		return 0, 0, fmt.Errorf("it ended: %w\n%s", err, out.String())
	case <-time.After(30 * time.Second):
		err = errors.New("it did not poll within 30 s")
	}
	_ = cmd.Process.Kill()
	<-ended
	ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, 0, errors.New("no times of the process")
	}
	return wall, time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), err
}

// evict drops a file from the page cache.
func evict(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// environment is a function's, as infra and Lambda make it.
func environment(function string) []string {
	return []string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_SESSION_TOKEN=c",
		"AWS_LAMBDA_FUNCTION_NAME=gust-bench-" + function, "AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/gust-bench-" + function,
		"AWS_LAMBDA_LOG_STREAM_NAME=2026/01/01/[$LATEST]0123456789abcdef", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(awsenv.MemoryMB(function)),
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "LANG=C.UTF-8",
		awsenv.Stage + "=bench", awsenv.Deployment + "=gust-bench", awsenv.Table + "=gust-bench", awsenv.DataBucket + "=gust-bench-data", awsenv.DagsBucket + "=gust-bench-dags",
		awsenv.EventsQueueURL + "=https://sqs.us-east-1.amazonaws.com/1/events", awsenv.TimersQueueURL + "=https://sqs.us-east-1.amazonaws.com/1/timers",
		awsenv.TaskQueues + `={"default":"https://sqs.us-east-1.amazonaws.com/1/tasks-default"}`, awsenv.WorkerQueue + "=default",
		awsenv.KeysSecret + "=arn:aws:secretsmanager:us-east-1:1:secret:keys", awsenv.ParserFunction + "=gust-bench-dagparser",
		awsenv.DagEventsQueueURL + "=https://sqs.us-east-1.amazonaws.com/1/dagfiles",
	}
}

// group is a cgroup that bounds CPU, of either version.
type group struct {
	dir string
	v2  bool
}

func newGroup() (group, error) {
	name := fmt.Sprint("gust-coldstart-", os.Getpid())
	for _, g := range []group{{"/sys/fs/cgroup/cpu/" + name, false}, {"/sys/fs/cgroup/" + name, true}} {
		if err := os.Mkdir(g.dir, 0o755); err != nil {
			continue
		}
		if g.quota(1) == nil {
			return g, nil
		}
		g.remove()
	}
	return group{}, errors.New("no cgroup that bounds CPU can be made: run this as root, where cgroups are writable")
}

// period is that of Lambda's scheduler as it is seen from inside, in µs.
const period = 20000

func (g group) quota(share float64) error {
	q := strconv.Itoa(int(share * period))
	if g.v2 {
		return os.WriteFile(g.dir+"/cpu.max", []byte(q+" "+strconv.Itoa(period)), 0o644)
	}
	if err := os.WriteFile(g.dir+"/cpu.cfs_period_us", []byte(strconv.Itoa(period)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(g.dir+"/cpu.cfs_quota_us", []byte(q), 0o644)
}

func (g group) procs() string { return g.dir + "/cgroup.procs" }
func (g group) remove()       { _ = os.Remove(g.dir) }
