package restapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/vectors"
)

// call is one recorded call; see testdata/vectors/api/README.md.
type call struct {
	N           int               `json:"n"`
	Method      string            `json:"method"`
	Path        string            `json:"path"`
	Auth        bool              `json:"auth"`
	Headers     map[string]string `json:"headers"`
	Body        json.RawMessage   `json:"body"`
	Status      int               `json:"status"`
	ContentType string            `json:"content_type"`
	Response    any               `json:"response"`
	Note        string            `json:"note"`
}

// TestVectorsAPI replays the calls recorded on a real Airflow against a server
// that runs the same DAGs. GUST_VECTORS replaces the recording.
func TestVectorsAPI(t *testing.T) {
	dir := vectors.Dir(t, "api")
	calls := readCalls(t, filepath.Join(dir, "calls.jsonl"))
	s := startSite(t, os.DirFS(filepath.Join(dir, "dags")))
	rp := &replay{T: t, site: s, did: map[string]bool{}, calls: calls}
	passed, failed := 0, 0
	for _, c := range calls {
		if c.ContentType != "application/json" {
			t.Errorf("call %d: content type %q is not known to this test", c.N, c.ContentType)
		}
		if wrong := rp.play(c); len(wrong) > 0 {
			failed++
			t.Errorf("call %d: %s %s\n  %s", c.N, c.Method, c.Path, strings.Join(wrong, "\n  "))
			continue
		}
		passed++
	}
	fmt.Printf("vectors api: %d passed, %d failed of %d calls\n", passed, failed, len(calls))
}

func readCalls(t *testing.T, path string) []call {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []call
	in := bufio.NewScanner(f)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		dec := json.NewDecoder(bytes.NewReader(in.Bytes()))
		dec.DisallowUnknownFields()
		dec.UseNumber()
		var c call
		if err := dec.Decode(&c); err != nil {
			t.Fatalf("%s: %v in %.200s", path, err, in.Text())
		}
		out = append(out, c)
	}
	if err := in.Err(); err != nil || len(out) == 0 {
		t.Fatalf("%s: %d calls, %v", path, len(out), err)
	}
	return out
}

// replay plays calls, and between them what the recorder did.
type replay struct {
	*testing.T
	*site
	did      map[string]bool
	calls    []call
	backfill string
}

// once does something of the recorder's before the first call that shows it.
func (rp *replay) once(what string, f func()) {
	if !rp.did[what] {
		rp.did[what] = true
		f()
	}
}

// prepare does what the recorder did before a call.
func (rp *replay) prepare(c call) {
	if strings.HasPrefix(c.Path, "/api/v2/dags") {
		rp.once("unpause", func() {
			for _, d := range rp.list("/api/v2/dags?limit=100", "dags") {
				if id := d["dag_id"].(string); id != "probe_daily" {
					rp.must("PATCH", "/api/v2/dags/"+id, `{"is_paused": false}`, 200)
				}
			}
		})
	}
	runs := strings.Contains(c.Path, "/dagRuns") || strings.Contains(c.Path, "/clearTaskInstances")
	if runs && c.Method != "POST" || strings.HasSuffix(c.Path, "/dagRuns/list") {
		rp.once("runs", func() {
			for dag, run := range map[string]string{"probe_fail": "vec_f", "probe_sleeper": "vec_s", "probe_mapped": "vec_m"} {
				rp.must("POST", "/api/v2/dags/"+dag+"/dagRuns", `{"dag_run_id": "`+run+`", "logical_date": null}`, 200)
			}
			for _, at := range []string{"probe_hello/dagRuns/vec_1", "probe_hello/dagRuns/vec_2", "probe_fail/dagRuns/vec_f", "probe_mapped/dagRuns/vec_m"} {
				rp.ends("/api/v2/dags/" + at)
			}
			for _, r := range rp.list("/api/v2/dags/probe_hello/dagRuns", "dag_runs") {
				rp.ends("/api/v2/dags/probe_hello/dagRuns/" + strings.ReplaceAll(r["dag_run_id"].(string), "+", "%2B"))
			}
			rp.until("sleep_long runs", func() bool {
				return rp.get("/api/v2/dags/probe_sleeper/dagRuns/vec_s/taskInstances/sleep_long")["state"] == "running"
			})
		})
	}
	if recorded, _ := c.Response.(map[string]any); strings.HasPrefix(c.Path, "/api/v2/assets?") {
		l, _ := recorded["assets"].([]any)
		for _, x := range l {
			a, _ := x.(map[string]any)
			if last, _ := a["last_asset_event"].(map[string]any); last["timestamp"] == nil {
				continue
			}
			name, _ := a["name"].(string)
			rp.once("event of "+name, func() { // from before the recording's first call
				for _, a := range rp.list("/api/v2/assets?name_pattern="+name, "assets") {
					rp.must("POST", "/api/v2/assets/events", fmt.Sprintf(`{"asset_id": %v}`, a["id"]), 200)
				}
			})
		}
	}
	if strings.Contains(c.Path, "probe_consumer/dagRuns") {
		rp.once("consumer", func() {
			for _, a := range rp.list("/api/v2/assets?name_pattern=probe_rates", "assets") {
				rp.must("POST", "/api/v2/assets/events", fmt.Sprintf(`{"asset_id": %v}`, a["id"]), 200)
			}
			rp.until("the consumer ran", func() bool {
				l := rp.list("/api/v2/dags/probe_consumer/dagRuns", "dag_runs")
				return len(l) > 0 && (l[0]["state"] == "success" || l[0]["state"] == "failed")
			})
		})
	}
	if c.Method == "GET" && regexp.MustCompile(`^/api/v2/variables/vec_[a-z]+$`).MatchString(c.Path) && c.Status == 404 {
		rp.once("variables", func() {
			for _, v := range rp.list("/api/v2/variables?variable_key_pattern=vec_", "variables") {
				rp.must("DELETE", "/api/v2/variables/"+v["key"].(string), "", 204)
			}
		})
	}
}

// ends waits until a run is finished.
func (rp *replay) ends(path string) {
	rp.until(path+" ends", func() bool {
		s := rp.get(path)["state"]
		return s == "success" || s == "failed"
	})
}

func (rp *replay) until(what string, ok func() bool) {
	rp.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			rp.Fatalf("not within 90 s: %s", what)
		}
	}
}

// play makes one call and says what differs.
func (rp *replay) play(c call) []string {
	if rp.without[c.Path] {
		return nil
	}
	rp.prepare(c)
	path := c.Path
	if strings.HasPrefix(path, "/api/v2/assets/<id>") {
		for _, a := range rp.list("/api/v2/assets", "assets") {
			if producers, _ := a["producing_tasks"].([]any); (len(producers) == 0) == (c.Status == 404) {
				path = strings.Replace(path, "<id>", fmt.Sprint(a["id"]), 1)
				break
			}
		}
	}
	path = strings.Replace(path, "/backfills/<id>", "/backfills/"+rp.backfill, 1)
	body := string(c.Body)
	if strings.Contains(body, "<password>") {
		pw := rp.password
		if c.Status == 401 {
			pw = "wrong"
		}
		body = strings.ReplaceAll(body, "<password>", pw)
	}
	if body == "null" {
		body = ""
	}
	status, header, got := rp.do(c.Method, path, body, c.Auth, c.Headers)
	if m, ok := got.(map[string]any); ok && strings.HasSuffix(c.Path, "/backfills") && c.Method == "POST" && status == 200 {
		rp.backfill = fmt.Sprint(m["id"])
	}
	var wrong []string
	if status != c.Status {
		return []string{fmt.Sprintf("status %d, recorded %d: %s", status, c.Status, show(got))}
	}
	if ct, _, _ := strings.Cut(header.Get("Content-Type"), ";"); ct != c.ContentType {
		wrong = append(wrong, fmt.Sprintf("content type %q, recorded %q", header.Get("Content-Type"), c.ContentType))
	}
	want := c.Response
	if dag := regexp.MustCompile(`/eventLogs\?event=trigger_dag_run&dag_id=([^&]+)`).FindStringSubmatch(c.Path); dag != nil {
		// The recording counts what was asked before its first call too.
		n := 0
		for _, earlier := range rp.calls {
			if earlier.N < c.N && earlier.Method == "POST" && earlier.Path == "/api/v2/dags/"+dag[1]+"/dagRuns" {
				n++
			}
		}
		want.(map[string]any)["total_entries"] = json.Number(fmt.Sprint(n))
	}
	if strings.Contains(c.Path, "/logs/") && status == 200 {
		got = ownLines(got)
	}
	compare("", want, got, &wrong)
	return wrong
}

// ownLines cuts a log to what the command wrote, as the recording is.
func ownLines(v any) any {
	m, _ := v.(map[string]any)
	lines, _ := m["content"].([]any)
	from, to := 0, len(lines)
	for i, l := range lines {
		e, _ := l.(map[string]any)
		text, _ := e["event"].(string)
		if strings.HasPrefix(text, "Tmp dir root location") {
			from = i
		}
		if strings.HasPrefix(text, "Command exited with return code") {
			to = i + 1
			break
		}
	}
	m["content"] = lines[from:max(from, to)]
	return m
}

var placeholder = map[string]string{
	"<time>": `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?(Z|\+00:00)`, "<uuid>": `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`,
	"<int>": `\d+`, "<number>": `-?[0-9.e-]+`, "<token>": `\S+`, "<file_token>": `\S+`, "<cursor>": `\S+`, "<error id>": `.*`, "<hostname>": `\S*`,
	"<unixname>": `\S+`, "<markdown>": `(?s).*`, "<traceback>": `(?s).+`, "<text>": `(?s).+`, "<dags>": `.*`, "<8 letters>": `[A-Za-z]{8}`,
}

var anyPlaceholder = regexp.MustCompile(`<(?:time|uuid|int|number|token|file_token|cursor|error id|hostname|unixname|markdown|traceback|text|dags|8 letters)>`)

// compare says where got differs from want by the README's rules.
func compare(at string, want, got any, wrong *[]string) {
	bad := func(format string, args ...any) { *wrong = append(*wrong, at+": "+fmt.Sprintf(format, args...)) }
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			bad("%s, recorded an object", show(got))
			return
		}
		keys := make([]string, 0, len(w))
		for k := range w {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			v, there := g[k]
			switch {
			case !there:
				*wrong = append(*wrong, at+"."+k+": missing")
			case at == "" && k == "detail":
				compareDetail(w[k], v, wrong)
			case ignored[k]:
			case k == "tags":
				compare(at+"."+k, withoutFactory(w[k]), withoutFactory(v), wrong)
			case k == "reason" && strings.HasPrefix(at, ".dependencies"): // Airflow's own words
				if s, ok := v.(string); !ok || s == "" {
					bad("reason is %s", show(v))
				}
			default:
				compare(at+"."+k, w[k], v, wrong)
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			bad("%s, recorded %d elements: %s", show(got), len(w), show(want))
			return
		}
		for i := range w {
			compare(fmt.Sprintf("%s[%d]", at, i), w[i], g[i], wrong)
		}
	case string:
		if !anyPlaceholder.MatchString(w) {
			if got != want {
				bad("%s, recorded %q", show(got), w)
			}
			return
		}
		text := fmt.Sprint(got)
		if got == nil && w != "<markdown>" { // a DAG without doc_md has the file's text there
			bad("null, recorded %q", w)
			return
		}
		pattern := "^" + anyPlaceholder.ReplaceAllStringFunc(regexp.QuoteMeta(w), func(p string) string { return "(?:" + placeholder[p] + ")" }) + "$"
		if w != "<markdown>" && !regexp.MustCompile(pattern).MatchString(text) {
			bad("%s, recorded %q", show(got), w)
		}
	case json.Number:
		g, ok := got.(json.Number)
		if ok {
			a, err1 := w.Float64()
			b, err2 := g.Float64()
			ok = err1 == nil && err2 == nil && a == b
		}
		if !ok {
			bad("%s, recorded %s", show(got), w)
		}
	default:
		if !reflect.DeepEqual(want, got) {
			bad("%s, recorded %s", show(got), show(want))
		}
	}
}

// ignored are members that belong to the recording, not to the API.
var ignored = map[string]bool{"logger": true, "ui_color": true, "ui_fgcolor": true, "url": true}

// withoutFactory drops the tag that the recording's loader gave every DAG.
func withoutFactory(v any) any {
	l, ok := v.([]any)
	if !ok {
		return v
	}
	out := []any{}
	for _, x := range l {
		if m, ok := x.(map[string]any); ok && m["name"] == "dagfactory" {
			continue
		}
		out = append(out, x)
	}
	return out
}

// compareDetail compares the detail of an error: its form, and for lists type and loc.
func compareDetail(want, got any, wrong *[]string) {
	switch w := want.(type) {
	case string:
		if s, ok := got.(string); !ok || s == "" {
			*wrong = append(*wrong, "detail: "+show(got)+", recorded the text "+show(want))
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			*wrong = append(*wrong, "detail: "+show(got)+", recorded "+show(want))
			return
		}
		for i := range w {
			a, b := w[i].(map[string]any), g[i].(map[string]any)
			for k := range a {
				if k == "url" || k == "msg" {
					if _, there := b[k]; !there && k == "msg" {
						*wrong = append(*wrong, fmt.Sprintf("detail[%d].msg: missing", i))
					}
					continue
				}
				compare(fmt.Sprintf("detail[%d].%s", i, k), a[k], b[k], wrong)
			}
		}
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			*wrong = append(*wrong, "detail: "+show(got)+", recorded "+show(want))
			return
		}
		for k := range w {
			if _, there := g[k]; !there {
				*wrong = append(*wrong, "detail."+k+": missing")
			}
		}
	}
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if len(b) > 600 {
		b = append(b[:600], "…"...)
	}
	return string(b)
}

// do makes a request and reads the answer as JSON.
func (s *site) do(method, path, body string, auth bool, headers map[string]string) (int, http.Header, any) {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, s.url+path, in)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if auth {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return resp.StatusCode, resp.Header, nil
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return resp.StatusCode, resp.Header, string(b)
	}
	return resp.StatusCode, resp.Header, v
}

func (s *site) must(method, path, body string, want int) any {
	s.t.Helper()
	status, _, v := s.do(method, path, body, true, nil)
	if status != want {
		s.t.Fatalf("%s %s: %d, expected %d: %s", method, path, status, want, show(v))
	}
	return v
}

func (s *site) get(path string) map[string]any {
	s.t.Helper()
	m, _ := s.must("GET", path, "", 200).(map[string]any)
	return m
}

func (s *site) list(path, member string) (out []map[string]any) {
	s.t.Helper()
	l, ok := s.get(path)[member].([]any)
	if !ok {
		s.t.Fatalf("%s has no %s", path, member)
	}
	for _, x := range l {
		out = append(out, x.(map[string]any))
	}
	return out
}
