// Package tasklog keeps the logs of task instances as files, in Airflow's
// layout below the logs folder of the home:
//
//	dag_id=<dag>/run_id=<run>/task_id=<task>/[map_index=<n>/]attempt=<try>.log
//
// Each line is a JSON object with timestamp, level, event and logger, as
// Airflow 3 writes them. A try that is rescheduled or deferred appends to its
// file. Lines appear in the file at most FlushInterval after they were written,
// so that a log can be followed while its task runs.
package tasklog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Options tune a Logs. The zero value is a good default.
type Options struct {
	// MaxBytes bounds the file of one try; the beginning and the last 64 KiB
	// are kept, with a line between that says how much was left out. Default
	// 64 MiB, negative for no bound.
	MaxBytes int64
	// FlushInterval bounds how long a line stays in memory. Default 100 ms.
	FlushInterval time.Duration
	// PollInterval is how often a follower looks for more. Default 100 ms.
	PollInterval time.Duration
	// Now is the clock for lines of this package's own. Default time.Now.
	Now func() time.Time
}

// Logs is a logs folder. It is safe for concurrent use, also by several
// processes as long as one of them writes a given try.
type Logs struct {
	root string
	o    Options
}

// New returns the logs below root, which is made when the first log is written.
func New(root string, o Options) *Logs {
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = 100 * time.Millisecond
	}
	if o.PollInterval == 0 {
		o.PollInterval = 100 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Logs{root: root, o: o}
}

// Root returns the logs folder.
func (l *Logs) Root() string { return l.root }

// Path returns the file of a try. No id can lead out of the folder: characters
// that a file name may not hold are percent-encoded, and names that are too
// long are shortened and made unique by a hash.
func (l *Logs) Path(key airflow.TaskInstanceKey, try int) string {
	return filepath.Join(l.taskDir(key), "attempt="+strconv.Itoa(try)+".log")
}

func (l *Logs) taskDir(key airflow.TaskInstanceKey) string {
	dir := filepath.Join(l.runDir(key.DagID, key.RunID), component("task_id=", string(key.TaskID)))
	if key.MapIndex >= 0 {
		dir = filepath.Join(dir, "map_index="+strconv.Itoa(key.MapIndex))
	}
	return dir
}

func (l *Logs) dagDir(dag airflow.DagID) string {
	return filepath.Join(l.root, component("dag_id=", string(dag)))
}

func (l *Logs) runDir(dag airflow.DagID, run airflow.RunID) string {
	return filepath.Join(l.dagDir(dag), component("run_id=", string(run)))
}

// maxComponent is the longest file name that all usual file systems take.
const maxComponent = 255

// component returns a file name for an id.
func component(prefix, id string) string {
	const hexDigits = "0123456789ABCDEF"
	clean := true
	for i := 0; i < len(id); i++ {
		if c := id[i]; c < 0x20 || c == '/' || c == '\\' || c == '%' || c == 0x7f {
			clean = false
			break
		}
	}
	name := prefix + id
	if !clean {
		var b strings.Builder
		b.WriteString(prefix)
		for i := 0; i < len(id); i++ {
			c := id[i]
			if c < 0x20 || c == '/' || c == '\\' || c == '%' || c == 0x7f {
				b.WriteByte('%')
				b.WriteByte(hexDigits[c>>4])
				b.WriteByte(hexDigits[c&15])
				continue
			}
			b.WriteByte(c)
		}
		name = b.String()
	}
	if len(name) <= maxComponent {
		return name
	}
	sum := sha256.Sum256([]byte(id))
	short := strings.ToValidUTF8(name[:maxComponent-18], "")
	// "%~" cannot come from the encoding above, so that no other id has this name.
	return short + "%~" + hex.EncodeToString(sum[:8])
}

// Tries returns the numbers of the tries that have a log, ascending.
func (l *Logs) Tries(key airflow.TaskInstanceKey) ([]int, error) {
	entries, err := os.ReadDir(l.taskDir(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the logs of %s: %w", key, err)
	}
	var out []int
	for _, e := range entries {
		if n, ok := tryOf(e.Name()); ok {
			out = append(out, n)
		}
	}
	sort.Ints(out)
	return out, nil
}

func tryOf(name string) (int, bool) {
	s, ok := strings.CutPrefix(name, "attempt=")
	if !ok {
		return 0, false
	}
	if s, ok = strings.CutSuffix(s, ".log"); !ok {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0
}
