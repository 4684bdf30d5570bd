package restapi

import (
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

type innerBody struct {
	N int `json:"n" min:"1" max:"9"`
}

type trialBody struct {
	Closed
	Name  string         `json:"name" maxlen:"3" minlen:"1" pattern:"^[a-z]+$"`
	At    *Time          `json:"at" required:"true"`
	Flag  bool           `json:"flag" default:"true"`
	Ratio *float64       `json:"ratio" gt:"0"`
	State Opt[string]    `json:"state" enum:"a,b,c"`
	Mode  *string        `json:"mode" oneof:"x,y"`
	List  []string       `json:"list" required:"false" minitems:"1"`
	Map   map[string]any `json:"map" required:"false"`
	In    *innerBody     `json:"in"`
}

type trialInput struct {
	ID    int      `path:"id"`
	Limit int      `query:"limit" default:"50" min:"0"`
	Since *Time    `query:"since"`
	Tags  []string `query:"tags"`
	Nums  []int    `query:"nums"`
	On    *bool    `query:"on"`
	X     *float64 `query:"x"`
	Body  trialBody
}

func trialAPI(t *testing.T, seen *trialInput) *API {
	t.Helper()
	st := store.New(memkv.New(memkv.Options{}), nil)
	a := New(Options{Store: st, Engine: engine.New(engine.Options{Store: st, Passive: true})})
	Handle(a, Op{Method: "POST", Path: "/trial/{id}", ID: "trial", Action: auth.Read, Resource: auth.ResourceMenu, Event: "-"}, func(_ *Request, in *trialInput) (map[string]string, error) {
		*seen = *in
		return map[string]string{"ok": "<yes>"}, nil
	})
	Handle(a, Op{Method: "GET", Path: "/trial/{id}/fixed", ID: "fixed", Open: true}, func(*Request, *nothing) (Empty, error) { return Empty{}, nil })
	Handle(a, Op{Method: "GET", Path: "/trial/{rest...}", ID: "tail", Open: true}, func(r *Request, _ *nothing) (map[string]string, error) {
		return map[string]string{"rest": r.Path("rest")}, nil
	})
	Handle(a, Op{Method: "GET", Path: "/panics", ID: "panics", Open: true}, func(*Request, *nothing) (Empty, error) { panic("on purpose") })
	return a
}

func ask(a *API, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

const goodBody = `{"name": "ab", "at": "2025-01-02T03:04:05.5+02:00"}`

// TestRequestsAreChecked sends requests that are wrong in every way the types can
// say, and expects the errors of Airflow's framework.
func TestRequestsAreChecked(t *testing.T) {
	var seen trialInput
	a := trialAPI(t, &seen)
	for _, c := range []struct{ path, body, want string }{
		{"/trial/x", goodBody, "int_parsing path.id"},
		{"/trial/1?limit=-1", goodBody, "greater_than_equal query.limit"},
		{"/trial/1?limit=1.5&on=perhaps&x=y&since=yesterday&nums=1&nums=b", goodBody, "int_parsing query.limit, datetime_from_date_parsing query.since, int_parsing query.nums.1, bool_parsing query.on, float_parsing query.x"},
		{"/trial/1", `{}`, "missing body.name, missing body.at"},
		{"/trial/1", ``, "missing body"},
		{"/trial/1", `[1]`, "model_attributes_type body"},
		{"/trial/1", `{"name": `, "json_invalid body.8"},
		{"/trial/1", `{"name": "toolong", "at": null}`, "string_too_long body.name"},
		{"/trial/1", `{"name": "", "at": null}`, "string_too_short body.name"},
		{"/trial/1", `{"name": "AB", "at": null}`, "string_pattern_mismatch body.name"},
		{"/trial/1", `{"name": 5, "at": "2025-01-02T03:04:05"}`, "string_type body.name, timezone_aware body.at"},
		{"/trial/1", `{"name": "a", "at": true, "flag": "perhaps", "ratio": 0}`, "datetime_type body.at, bool_parsing body.flag, greater_than body.ratio"},
		{"/trial/1", `{"name": "a", "at": null, "flag": [], "ratio": "x", "state": "d", "mode": "z"}`, "bool_type body.flag, float_parsing body.ratio, enum body.state, value_error body.mode"},
		{"/trial/1", `{"name": "a", "at": null, "list": [], "map": 1, "in": {"n": 10}, "zz": 1}`, "too_short body.list, dict_type body.map, less_than_equal body.in.n, extra_forbidden body.zz"},
		{"/trial/1", `{"name": "a", "at": null, "list": [1], "in": {"n": 1.5}}`, "string_type body.list.0, int_from_float body.in.n"},
		{"/trial/1", `{"name": "a", "at": null, "list": 1, "in": 3}`, "list_type body.list, model_attributes_type body.in"},
		{"/trial/1", strings.Repeat("[", 300) + strings.Repeat("]", 300), "json_invalid body.0"},
	} {
		w := ask(a, "POST", c.path, c.body)
		var v struct{ Detail []FieldError }
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != 422 {
			t.Errorf("%s %s: %d %s", c.path, c.body, w.Code, w.Body)
			continue
		}
		var got []string
		for _, e := range v.Detail {
			var loc []string
			for _, l := range e.Loc {
				b, _ := json.Marshal(l)
				loc = append(loc, strings.Trim(string(b), `"`))
			}
			if e.Msg == "" || e.Input == nil {
				t.Errorf("%s: %+v", c.path, e)
			}
			got = append(got, e.Type+" "+strings.Join(loc, "."))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.path, c.body, strings.Join(got, ", "), c.want)
		}
	}
	w := ask(a, "POST", "/trial/7?limit=3&since=2025-01-02+03:04&tags=a&tags=b%20c&nums=4&on=yes&x=1e3", `{"name": "a", "at": 1735787045, "flag": "off", "ratio": "2.5", "state": null, "list": ["q"], "map": {"k": 1}, "in": {"n": "7"}}`)
	if w.Code != 200 || w.Body.String() != `{"ok":"<yes>"}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if seen.ID != 7 || seen.Limit != 3 || !seen.Since.Equal(time.Date(2025, 1, 2, 3, 4, 0, 0, time.UTC)) || !reflect.DeepEqual(seen.Tags, []string{"a", "b c"}) || !reflect.DeepEqual(seen.Nums, []int{4}) || !*seen.On || *seen.X != 1000 {
		t.Errorf("parameters: %+v", seen)
	}
	b := seen.Body
	if b.At.Unix() != 1735787045 || b.Flag || *b.Ratio != 2.5 || !b.State.Set || !b.State.Null || b.List[0] != "q" || b.Map["k"] != 1.0 || b.In.N != 7 || b.Mode != nil {
		t.Errorf("body: %+v", b)
	}
	ask(a, "POST", "/trial/7", goodBody)
	if seen.Limit != 50 || !seen.Body.Flag || seen.Body.State.Set || seen.Body.At.Text() != "2025-01-02T03:04:05.500000+02:00" {
		t.Errorf("defaults: %+v", seen)
	}
}

func TestRoutes(t *testing.T) {
	var seen trialInput
	a := trialAPI(t, &seen)
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/trial/a%2Fb/fixed", 204, ""},
		{"GET", "/trial/a/b%20c/d", 200, `{"rest":"a/b c/d"}`},
		{"GET", "/trial/x", 200, `{"rest":"x"}`},
		{"PUT", "/trial/x", 405, `{"detail":"Method Not Allowed"}`},
		{"GET", "/trial", 404, `{"error":"API route not found"}`},
		{"GET", "/trial/", 404, `{"error":"API route not found"}`},
		{"GET", "/api/v2/dags/", 404, `{"error":"API route not found"}`},
		{"GET", "/panics", 500, `{"detail":"Internal Server Error"}`},
	} {
		w := ask(a, c.method, c.path, "")
		if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %d %q %v", c.method, c.path, w.Code, w.Body, w.Header())
		}
		if c.status == 405 && w.Header().Get("Allow") != "GET, POST" {
			t.Errorf("Allow: %q", w.Header().Get("Allow"))
		}
	}
	first := ask(a, "GET", "/trial/x", "")
	if w := ask(a, "GET", "/trial/x", "", "If-None-Match", `"other", `+first.Header().Get("ETag")); w.Code != 304 || w.Body.Len() != 0 {
		t.Errorf("a tag that is known: %d %q", w.Code, w.Body)
	}
	if w := ask(a, "GET", "/trial/y", "", "If-None-Match", first.Header().Get("ETag")); w.Code != 200 {
		t.Errorf("a tag of something else: %d", w.Code)
	}
	if w := ask(a, "POST", "/trial/1", strings.Repeat(" ", maxBody+1)); w.Code != 413 {
		t.Errorf("a body that is too large: %d", w.Code)
	}
	if w := ask(a, "POST", "/trial/1", goodBody, "Content-Type", "text/plain"); w.Code != 422 {
		t.Errorf("a body that is no JSON: %d", w.Code)
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, text    string
		pattern2, prefix bool
	}{
		{"ab", "xABy", true, false}, {"a%c", "abbbc!", true, false}, {"a_c", "xaYc", true, false}, {"a_c", "ac", false, false}, {"~", "", true, true},
		{"x | ab", "abc", true, true}, {"ab_", "abz", true, true}, {"s3://", "s3x", false, true}, {"", "q", true, true}, {"%%%%%%%%%%a", strings.Repeat("b", 2000), false, false},
	} {
		if got := Pattern(&c.pattern)(c.text); got != c.pattern2 {
			t.Errorf("Pattern(%q)(%.20q) = %t", c.pattern, c.text, got)
		}
		if got := Prefix(&c.pattern)(c.text); got != c.prefix {
			t.Errorf("Prefix(%q)(%.20q) = %t", c.pattern, c.text, got)
		}
	}
	if !Pattern(nil)("x") || !Prefix(nil)("x") {
		t.Error("no pattern matches everything")
	}
}

func TestTexts(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "PT0S", time.Hour: "PT1H", 26*time.Hour + 1500*time.Millisecond: "P1DT2H1.5S", 48 * time.Hour: "P2D", -time.Minute: "-PT1M"} {
		if got := isoDuration(d); got != want {
			t.Errorf("isoDuration(%v) = %s, want %s", d, got, want)
		}
	}
	if got := PythonJSON(json.RawMessage(`{"b":1.50,"a":["é","\u0001𝄞",null,true],"s":"<a>&\"\\"}`)); got != `{"b": 1.50, "a": ["\u00e9", "\u0001\ud834\udd1e", null, true], "s": "<a>&\"\\"}` {
		t.Errorf("PythonJSON: %s", got)
	}
	if got := PythonRepr(json.RawMessage(`{"a": ["x'y", null, 1.0, true]}`)); got != `{'a': ["x'y", None, 1.0, True]}` {
		t.Errorf("PythonRepr: %s", got)
	}
	for d, want := range map[time.Duration]TimeDelta{90 * time.Second: {"TimeDelta", 0, 90, 0}, -time.Second: {"TimeDelta", -1, 86399, 0}, 25*time.Hour + time.Microsecond: {"TimeDelta", 1, 3600, 1}} {
		if got := *timeDelta(d); got != want {
			t.Errorf("timeDelta(%v) = %+v", d, got)
		}
	}
	for s, want := range map[string]bool{"https://x": true, "/log": true, "//evil": false, "javascript:alert(1)": false, " JavaScript:x": false, "data:text/html,x": false} {
		if safeLink(s) != want {
			t.Errorf("safeLink(%q) = %t", s, !want)
		}
	}
}
