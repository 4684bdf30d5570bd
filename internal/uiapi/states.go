package uiapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// Letters of states in a column; absent stands for tasks that the run's version
// of the DAG does not have.
const absent = ' '

var letters = [airflow.NumTIStates]byte{
	airflow.TINone: '.', airflow.TISuccess: 's', airflow.TIFailed: 'f', airflow.TIRunning: 'r', airflow.TIQueued: 'q', airflow.TIScheduled: 'c',
	airflow.TIUpForRetry: 'y', airflow.TIUpForReschedule: 'h', airflow.TIUpstreamFailed: 'u', airflow.TISkipped: 'k', airflow.TIDeferred: 'd',
	airflow.TIRestarting: 'e', airflow.TIRemoved: 'x',
}

// weightiest are the states in the order in which one stands for several.
var weightiest = []airflow.TIState{
	airflow.TIFailed, airflow.TIUpstreamFailed, airflow.TIUpForRetry, airflow.TIUpForReschedule, airflow.TIQueued, airflow.TIScheduled,
	airflow.TIDeferred, airflow.TIRunning, airflow.TIRestarting, airflow.TINone, airflow.TISuccess, airflow.TISkipped, airflow.TIRemoved,
}

func letterOf(s airflow.TIState) byte {
	if int(s) < len(letters) && letters[s] != 0 {
		return letters[s]
	}
	return '.'
}

// column is the states of one run, aligned with the rows of a structure.
type column struct {
	tag    string // of all below and of the run's own fields
	cells  string // a letter for each task row of the structure
	mapped map[string]map[string]int
	gone   map[string]string // tasks that the structure does not have
}

// columnView is what the client gets of a run that it does not have yet, or that
// has changed: all cells, or those that changed since Base.
type columnView struct {
	runView
	Tag    string                    `json:"tag"`
	Cells  *string                   `json:"cells,omitempty"`
	Base   string                    `json:"base,omitempty"`
	Diff   []any                     `json:"diff,omitempty"` // row, letter, row, letter …
	Mapped map[string]map[string]int `json:"mapped,omitempty"`
	Gone   map[string]string         `json:"gone,omitempty"`
}

type stateList struct {
	Structure string          `json:"structure"`
	Order     []airflow.RunID `json:"order"` // newest first
	Runs      []columnView    `json:"runs"`  // new and changed ones
	Cursor    string          `json:"cursor"`
	Pending   bool            `json:"pending"` // something may change without anybody's doing
	More      bool            `json:"more,omitempty"`
}

// settledFor is how long the column of a finished run is taken from memory without
// looking whether somebody cleared or marked something there. Who acts asks with fresh=true.
const settledFor = 10 * time.Second

// states answers the grid's cells. A client hands back the cursor of its last
// answer and gets the runs that changed, and of those the changed cells if this
// process still knows what the client has (all cells if not).
//
//	runs               how many, newest first (25)
//	run_after_lte      only runs up to this time
//	run_type, state    filters, repeatable
//	cursor, fresh
func (a *api) states(r *http.Request) (any, error) {
	m, err := a.dag(r, "task_instance")
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	n, err := number(r, "runs", 25, 365)
	if err != nil {
		return nil, err
	}
	until, err := moment(r, "run_after_lte")
	if err != nil {
		return nil, err
	}
	runs, more, err := a.runsOf(r.Context(), m.DagID, n, until, q["run_type"], q["state"])
	if err != nil {
		return nil, err
	}
	g, err := a.Engine.Graph(r.Context(), m.LatestHash)
	if err != nil {
		return nil, err
	}
	rows := a.columns.rows(m.LatestHash, g)
	fresh := q.Get("fresh") == "true"
	cols, err := each(r.Context(), runs, func(ctx context.Context, info airflow.DagRun) (*column, error) {
		return a.column(ctx, info, m.LatestHash, rows, fresh)
	})
	if err != nil {
		return nil, err
	}
	out := stateList{Structure: m.LatestHash, Order: []airflow.RunID{}, Runs: []columnView{}, More: more}
	had := tagsIn(q.Get("cursor"))
	tags := make([]string, len(runs))
	for i, info := range runs {
		c := cols[i]
		out.Order = append(out.Order, info.RunID)
		tags[i] = c.tag
		out.Pending = out.Pending || !info.State.Finished() && !(m.IsPaused && info.State == airflow.RunQueued)
		if had[c.tag] {
			continue
		}
		v := columnView{runView: viewOf(info), Tag: c.tag, Mapped: c.mapped, Gone: c.gone}
		if old := a.columns.known(store.RunKey{DagID: info.DagID, RunID: info.RunID}, had); old != nil && len(old.cells) == len(c.cells) {
			v.Base, v.Diff = old.tag, diff(old.cells, c.cells)
		} else {
			v.Cells = &c.cells
		}
		out.Runs = append(out.Runs, v)
	}
	out.Cursor = strings.Join(tags, "")
	return out, nil
}

// runsOf lists the newest runs; filters are applied to at most MaxDags runs.
func (a *api) runsOf(ctx context.Context, dag airflow.DagID, n int, until *time.Time, types, states []string) (out []airflow.DagRun, more bool, err error) {
	o := store.ListOptions{Descending: true, Limit: n + 1}
	if until != nil {
		o.To = store.RunsUntil(*until)
	}
	for looked := 0; looked < MaxDags; {
		page, cursor, err := a.Store.ListRuns(ctx, dag, o)
		if err != nil {
			return nil, false, err
		}
		looked += len(page)
		for _, r := range page {
			if len(types) > 0 && !slices.Contains(types, string(r.RunType)) || len(states) > 0 && !slices.Contains(states, string(r.State)) {
				continue
			}
			if len(out) == n {
				return out, true, nil
			}
			out = append(out, r)
		}
		if cursor == "" {
			return out, false, nil
		}
		o.Cursor = cursor
	}
	return out, true, nil
}

const tagBytes = 8 // in base64, 6 bytes of a hash

func tagsIn(cursor string) map[string]bool {
	out := map[string]bool{}
	for len(cursor) >= tagBytes {
		out[cursor[:tagBytes]] = true
		cursor = cursor[tagBytes:]
	}
	return out
}

func diff(from, to string) []any {
	out := []any{}
	for i := range len(to) {
		if from[i] != to[i] {
			out = append(out, i, to[i:i+1])
		}
	}
	return out
}

// columns remembers, of every run lately shown, the newest columns: the last one
// spares reading a finished run again, the earlier ones are what clients have.
type columns struct {
	mu     sync.Mutex
	byRun  map[store.RunKey]*remembered
	layout map[string]map[string]int // structure -> task id -> row among the tasks
}

type remembered struct {
	stamp   string
	checked time.Time
	cols    []*column // newest first
}

const (
	maxRemembered = 4000 // runs
	maxColumns    = 4    // of a run
	maxLayouts    = 256
)

// rows maps the tasks of a structure to their position in a column.
func (c *columns) rows(hash string, g *scheduler.Graph) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rows, ok := c.layout[hash]; ok {
		return rows
	}
	rows := map[string]int{}
	for _, n := range nodesOf(g) {
		if !n.Group {
			rows[n.ID] = len(rows)
		}
	}
	if c.layout == nil || len(c.layout) >= maxLayouts {
		c.layout = map[string]map[string]int{}
	}
	c.layout[hash] = rows
	return rows
}

func (c *columns) known(k store.RunKey, tags map[string]bool) *column {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.byRun[k]; m != nil {
		for _, col := range m.cols {
			if tags[col.tag] {
				return col
			}
		}
	}
	return nil
}

func (c *columns) last(k store.RunKey) (stamp string, checked time.Time, col *column) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.byRun[k]; m != nil && len(m.cols) > 0 {
		return m.stamp, m.checked, m.cols[0]
	}
	return "", time.Time{}, nil
}

func (c *columns) remember(k store.RunKey, stamp string, now time.Time, col *column) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byRun == nil || len(c.byRun) >= maxRemembered {
		c.byRun = map[store.RunKey]*remembered{}
	}
	m := c.byRun[k]
	if m == nil {
		m = &remembered{}
		c.byRun[k] = m
	}
	m.stamp, m.checked = stamp, now
	if len(m.cols) > 0 && m.cols[0].tag == col.tag {
		return
	}
	m.cols = append([]*column{col}, m.cols[:min(len(m.cols), maxColumns-1)]...)
}

// column reads the states of a run, from memory if it has finished and nothing was
// committed since.
func (a *api) column(ctx context.Context, info airflow.DagRun, hash string, rows map[string]int, fresh bool) (*column, error) {
	k := store.RunKey{DagID: info.DagID, RunID: info.RunID}
	now := a.Now()
	stamp := ""
	if info.State.Finished() {
		old, checked, col := a.columns.last(k)
		base := fmt.Sprint(hash, info.State, info.ClearNumber, info.MetaVersion, info.EndDate, info.Note != "", "@")
		if col != nil && !fresh && strings.HasPrefix(old, base) && now.Sub(checked) < settledFor {
			return col, nil
		}
		version, err := a.Store.RunStateVersion(ctx, k)
		if err != nil {
			return nil, err
		}
		stamp = base + fmt.Sprint(version)
		if col != nil && old == stamp {
			a.columns.remember(k, stamp, now, col)
			return col, nil
		}
	}
	_, cells, err := a.Engine.Cells(ctx, info)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", k, err)
	}
	col := &column{}
	letters := []byte(strings.Repeat(string(absent), len(rows)))
	counts := map[string]map[airflow.TIState]int{}
	for _, c := range cells {
		id := string(c.TaskID)
		if c.MapIndex >= 0 {
			if counts[id] == nil {
				counts[id] = map[airflow.TIState]int{}
			}
			counts[id][c.State]++
			continue
		}
		put(col, rows, letters, id, letterOf(c.State))
	}
	for id, n := range counts {
		for _, s := range weightiest {
			if n[s] > 0 {
				put(col, rows, letters, id, letterOf(s))
				break
			}
		}
		if col.mapped == nil {
			col.mapped = map[string]map[string]int{}
		}
		named := map[string]int{}
		for s, c := range n {
			named[s.String()] = c
		}
		col.mapped[id] = named
	}
	col.cells = string(letters)
	about, err := json.Marshal(columnView{runView: viewOf(info), Cells: &col.cells, Mapped: col.mapped, Gone: col.gone})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append(about, hash...))
	col.tag = base64.RawURLEncoding.EncodeToString(sum[:6])
	a.columns.remember(k, stamp, now, col)
	return col, nil
}

func put(col *column, rows map[string]int, letters []byte, id string, letter byte) {
	if row, ok := rows[id]; ok {
		letters[row] = letter
		return
	}
	if col.gone == nil {
		col.gone = map[string]string{}
	}
	col.gone[id] = string(letter)
}

// tally counts a run's instances by state.
func tally(cells []airflow.TIState) map[string]int {
	n := map[airflow.TIState]int{}
	for _, s := range cells {
		n[s]++
	}
	out := make(map[string]int, len(n))
	for _, s := range slices.Sorted(maps.Keys(n)) {
		out[s.String()] = n[s]
	}
	return out
}
