package template

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/vectors"
)

type vectorContext struct {
	ID          string                `json:"id"`
	DagID       string                `json:"dag_id"`
	TaskID      string                `json:"task_id"`
	MapIndex    int                   `json:"map_index"`
	TryNumber   int                   `json:"try_number"`
	MaxTries    int                   `json:"max_tries"`
	TIStartDate *time.Time            `json:"ti_start_date"`
	Params      json.RawMessage       `json:"params"`
	Variables   map[string]string     `json:"variables"`
	Connections map[string]vectorConn `json:"connections"`
	XComs       []vectorXCom          `json:"xcoms"`
	DagRun      vectorRun             `json:"dag_run"`
	PrevSuccess *vectorPrev           `json:"prev_success"`
}

type vectorConn struct {
	ConnType    string  `json:"conn_type"`
	Description *string `json:"description"`
	Host        *string `json:"host"`
	Port        *int    `json:"port"`
	Login       *string `json:"login"`
	Password    *string `json:"password"`
	Schema      *string `json:"schema"`
	Extra       *string `json:"extra"`
}

type vectorXCom struct {
	TaskID   string          `json:"task_id"`
	Key      string          `json:"key"`
	MapIndex *int            `json:"map_index"`
	DagID    *string         `json:"dag_id"`
	Value    json.RawMessage `json:"value"`
}

type vectorRun struct {
	DagID             string          `json:"dag_id"`
	RunID             string          `json:"run_id"`
	LogicalDate       *time.Time      `json:"logical_date"`
	DataIntervalStart *time.Time      `json:"data_interval_start"`
	DataIntervalEnd   *time.Time      `json:"data_interval_end"`
	RunAfter          time.Time       `json:"run_after"`
	StartDate         *time.Time      `json:"start_date"`
	EndDate           *time.Time      `json:"end_date"`
	RunType           string          `json:"run_type"`
	State             string          `json:"state"`
	Conf              json.RawMessage `json:"conf"`
	ConsumedEvents    []any           `json:"consumed_asset_events"`
	PartitionKey      *string         `json:"partition_key"`
}

type vectorPrev struct {
	DataIntervalStart *time.Time `json:"data_interval_start"`
	DataIntervalEnd   *time.Time `json:"data_interval_end"`
	StartDate         *time.Time `json:"start_date"`
	EndDate           *time.Time `json:"end_date"`
}

type vectorCase struct {
	ID        string          `json:"id"`
	Context   string          `json:"context"`
	Value     json.RawMessage `json:"value"`
	Native    bool            `json:"native"`
	Undefined string          `json:"undefined"`
	EnvKw     map[string]any  `json:"envkw"`
	Files     bool            `json:"files"`
	Expect    json.RawMessage `json:"expect"`
	Error     *struct {
		Class   string `json:"class"`
		Message string `json:"message"`
	} `json:"error"`
}

// prevCache is Airflow's cache of the previous successful run: the answer to
// the first question is kept per process and TI id, and the recording used one
// process and one TI id for all its cases, in the order of the file.
type prevCache struct {
	asked bool
	run   *PrevRun
}

func (v *vectorContext) input(cache *prevCache) Input {
	ownDag := v.DagID
	find := func(q XComQuery) (out []vectorXCom) {
		for _, x := range v.XComs {
			dag := ownDag
			if x.DagID != nil {
				dag = *x.DagID
			}
			if x.TaskID == q.TaskID && x.Key == q.Key && dag == q.DagID {
				out = append(out, x)
			}
		}
		index := func(x vectorXCom) int {
			if x.MapIndex == nil {
				return -1
			}
			return *x.MapIndex
		}
		sort.SliceStable(out, func(i, j int) bool { return index(out[i]) < index(out[j]) })
		return out
	}
	return Input{
		Dag:  Dag{DagID: v.DagID},
		Task: Task{TaskID: v.TaskID, OperatorClass: "VectorOperator", Attrs: map[string]any{"owner": "team-x", "retries": 2}},
		TaskInstance: TaskInstance{
			DagID: v.DagID, TaskID: v.TaskID, MapIndex: v.MapIndex, TryNumber: v.TryNumber, MaxTries: v.MaxTries, StartDate: v.TIStartDate,
		},
		DagRun: DagRun{
			DagID: v.DagRun.DagID, RunID: v.DagRun.RunID, RunType: v.DagRun.RunType, State: v.DagRun.State,
			LogicalDate: v.DagRun.LogicalDate, DataIntervalStart: v.DagRun.DataIntervalStart, DataIntervalEnd: v.DagRun.DataIntervalEnd,
			RunAfter: v.DagRun.RunAfter, StartDate: v.DagRun.StartDate, EndDate: v.DagRun.EndDate,
			Conf: v.DagRun.Conf, PartitionKey: v.DagRun.PartitionKey,
		},
		Params: v.Params,
		Lookups: Lookups{
			Variable: func(key string) (string, bool, error) { s, ok := v.Variables[key]; return s, ok, nil },
			Connection: func(id string) (*Connection, error) {
				c, ok := v.Connections[id]
				if !ok {
					return nil, nil
				}
				return &Connection{
					ConnID: id, ConnType: c.ConnType, Description: c.Description, Host: c.Host, Port: c.Port,
					Login: c.Login, Password: c.Password, Schema: c.Schema, Extra: c.Extra,
				}, nil
			},
			XComAll: func(q XComQuery) ([]jinja.Value, bool, error) {
				var out []jinja.Value
				for _, x := range find(q) {
					val, err := jinja.ParseJSON(string(x.Value))
					if err != nil {
						return nil, false, err
					}
					out = append(out, val)
				}
				return out, len(out) > 0, nil
			},
			XComOne: func(q XComQuery) (jinja.Value, error) {
				for _, x := range find(q) {
					if x.MapIndex == nil && q.MapIndex == -1 || x.MapIndex != nil && *x.MapIndex == q.MapIndex {
						return jinja.ParseJSON(string(x.Value))
					}
				}
				return nil, nil
			},
			PrevSuccess: func() (*PrevRun, error) {
				if !cache.asked {
					cache.asked = true
					if p := v.PrevSuccess; p != nil {
						cache.run = &PrevRun{p.DataIntervalStart, p.DataIntervalEnd, p.StartDate, p.EndDate}
					}
				}
				return cache.run, nil
			},
		},
		Sources: Sources{Now: time.Now, Random: rand.Float64},
	}
}

// tagged writes a rendered value as the vectors do: what JSON lacks becomes an
// object with "$type".
func tagged(t *testing.T, v jinja.Value) jinja.Value {
	t.Helper()
	obj := func(kv ...any) jinja.Value {
		d := jinja.NewDict()
		for i := 0; i < len(kv); i += 2 {
			d.Set(kv[i], kv[i+1])
		}
		return d
	}
	text := func(v jinja.Value) string {
		s, err := jinja.Str(v)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	items := func(in []jinja.Value) *jinja.List {
		l := jinja.NewList()
		for _, it := range in {
			l.Items = append(l.Items, tagged(t, it))
		}
		return l
	}
	switch x := v.(type) {
	case nil, bool, string:
		return x
	case jinja.Markup:
		return string(x)
	case int64:
		if x > 1<<53 || x < -(1<<53) {
			return obj("$type", "int", "value", text(x))
		}
		return x
	case *big.Int:
		return obj("$type", "int", "value", x.String())
	case float64:
		if x != x || x > 1.7976931348623157e308 || x < -1.7976931348623157e308 {
			return obj("$type", "float", "value", text(x))
		}
		return x
	case *jinja.List:
		return items(x.Items)
	case *jinja.Tuple:
		return obj("$type", "tuple", "items", items(x.Items))
	case *jinja.Dict:
		d := jinja.NewDict()
		x.Each(func(k, e jinja.Value) bool { d.Set(k, tagged(t, e)); return true })
		return d
	case *jinja.DateTime:
		name := "datetime"
		if x.IsPendulum() {
			name = "pendulum.DateTime"
		}
		return obj("$type", name, "value", x.ISO())
	case *jinja.Date:
		return obj("$type", "date", "value", x.ISO())
	case *jinja.TimeDelta:
		return obj("$type", "timedelta", "seconds", x.Seconds(), "str", text(x))
	case *jinja.Interval:
		return obj("$type", "Interval", "seconds", x.Seconds(), "str", text(x))
	}
	r, err := jinja.Repr(v)
	if err != nil {
		t.Fatal(err)
	}
	typ := jinja.TypeOf(v)
	return obj("$type", typ.Module+"."+typ.Name, "repr", r)
}

func dump(t *testing.T, v jinja.Value) string {
	t.Helper()
	s, err := jinja.DumpJSON(v, jinja.JSONOptions{NonASCII: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func loadVectors(t testing.TB) (map[string]*vectorContext, fstest.MapFS, []vectorCase) {
	dir := vectors.Dir(t, "templates")
	known := map[string]bool{"README.md": true, "contexts.json": true, "templates.jsonl": true}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			t.Logf("%s is not covered by this test", e.Name())
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "contexts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Contexts []*vectorContext  `json:"contexts"`
		Files    map[string]string `json:"files"`
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("contexts.json: %v", err)
	}
	contexts := map[string]*vectorContext{}
	for _, c := range doc.Contexts {
		contexts[c.ID] = c
	}
	files := fstest.MapFS{}
	for name, text := range doc.Files {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	f, err := os.Open(filepath.Join(dir, "templates.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []vectorCase
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		dec := json.NewDecoder(strings.NewReader(sc.Text()))
		dec.DisallowUnknownFields()
		var c vectorCase
		if err := dec.Decode(&c); err != nil {
			t.Fatalf("templates.jsonl: %v in %s", err, sc.Text())
		}
		cases = append(cases, c)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return contexts, files, cases
}

// TestVectorsTemplates replays what Airflow rendered. Values must match to the
// letter; of errors the class must match.
func TestVectorsTemplates(t *testing.T) {
	contexts, files, cases := loadVectors(t)
	type count struct{ passed, failed int }
	themes := map[string]*count{}
	cache := &prevCache{}
	otherMessage := 0
	for _, c := range cases {
		theme := c.ID
		if i := strings.LastIndexByte(theme, '-'); i >= 0 {
			theme = theme[:i]
		}
		n := themes[theme]
		if n == nil {
			n = &count{}
			themes[theme] = n
		}
		fail := func(format string, args ...any) {
			n.failed++
			t.Errorf("%s %s %s: %s", c.ID, c.Context, c.Value, fmt.Sprintf(format, args...))
		}
		vc := contexts[c.Context]
		if vc == nil {
			t.Fatalf("%s: unknown context %q", c.ID, c.Context)
		}
		got, err := renderCase(t, vc, files, c, cache)
		var je *jinja.Error
		switch {
		case c.Error == nil && err != nil:
			fail("error %v, want %s", err, c.Expect)
		case c.Error != nil && err == nil:
			fail("got %s, want error %s", dump(t, tagged(t, got)), c.Error.Class)
		case c.Error != nil && !errors.As(err, &je):
			fail("error %v without class, want %s", err, c.Error.Class)
		case c.Error != nil && je.Class != c.Error.Class:
			fail("error %v, want %s: %s", err, c.Error.Class, c.Error.Message)
		case c.Error != nil:
			if je.Message != c.Error.Message {
				otherMessage++
				t.Logf("%s %s: message %q, Airflow's is %q", c.ID, c.Value, je.Message, c.Error.Message)
			}
			n.passed++
		default:
			want, err := jinja.ParseJSON(string(c.Expect))
			if err != nil {
				t.Fatalf("%s: %v", c.ID, err)
			}
			if g, w := dump(t, tagged(t, got)), dump(t, want); g != w {
				fail("got %s, want %s", g, w)
			} else {
				n.passed++
			}
		}
	}
	names := make([]string, 0, len(themes))
	for k := range themes {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		t.Logf("templates %-16s passed %d, excluded 0, failed %d", k, themes[k].passed, themes[k].failed)
	}
	t.Logf("templates: %d cases, %d errors of the right class with another message", len(cases), otherMessage)
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
}

func renderCase(t *testing.T, vc *vectorContext, files fstest.MapFS, c vectorCase, cache *prevCache) (jinja.Value, error) {
	t.Helper()
	in := vc.input(cache)
	ctx, err := NewContext(in)
	if err != nil {
		t.Fatalf("%s: %v", c.ID, err)
	}
	o := Options{Native: c.Native, Undefined: c.Undefined, EnvironmentKwargs: c.EnvKw, TemplateExt: []string{".sql", ".sh"}, Sources: in.Sources}
	o.SearchPath = []SearchDir{{Name: "<dag folder>", FS: fstest.MapFS{}}}
	if c.Files {
		o.SearchPath = append(o.SearchPath, SearchDir{Name: "<searchpath>", FS: files})
	}
	r, err := NewRenderer(o)
	if err != nil {
		t.Fatalf("%s: %v", c.ID, err)
	}
	v, err := jinja.ParseJSON(string(c.Value))
	if err != nil {
		t.Fatalf("%s: %v", c.ID, err)
	}
	return r.RenderValue(ctx, v)
}
