package connection

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/airflow"
)

func TestParseURI(t *testing.T) {
	for uri, want := range map[string]airflow.Connection{
		"postgres://user:p%40ss%2Fw%3Ard@db.example.com:6543/sales?sslmode=require": {ConnType: "postgres", Login: "user", Password: "p@ss/w:rd", Host: "db.example.com", Port: 6543, Schema: "sales", Extra: `{"sslmode": "require"}`},
		"postgresql://h/s":                                               {ConnType: "postgres", Host: "h", Schema: "s"},
		"google-cloud-platform://":                                       {ConnType: "google_cloud_platform"},
		"google_cloud_platform://":                                       {ConnType: "google_cloud_platform"},
		"HTTP://HOST.Example/S":                                          {ConnType: "http", Host: "host.example", Schema: "S"},
		"http://https://example.com:8443/path":                           {ConnType: "http", Host: "https://example.com", Port: 8443, Schema: "path"},
		"http://https://u:p@example.com":                                 {ConnType: "http", Host: "https://example.com", Login: "u", Password: "p"},
		"http://http://example.com":                                      {ConnType: "http", Host: "http://example.com"},
		"http://host/?hook=https://x.y/z":                                {ConnType: "http", Host: "host", Extra: `{"hook": "https://x.y/z"}`},
		"aws://?region_name=eu&role=a%3Ab&e=":                            {ConnType: "aws", Extra: `{"region_name": "eu", "role": "a:b", "e": ""}`},
		"aws://AKIA:se%2Fcret@/?__extra__=%7B%22a%22%3A+%5B1%2C+2%5D%7D": {ConnType: "aws", Login: "AKIA", Password: "se/cret", Extra: `{"a": [1, 2]}`},
		"mysql://%2Fvar%2FRun%2Fmysql.sock/db":                           {ConnType: "mysql", Host: "/var/Run/mysql.sock", Schema: "db"},
		"sqlite:///%2Ftmp%2Fx.db":                                        {ConnType: "sqlite", Schema: "/tmp/x.db"},
		"ssh://@:22":                                                     {ConnType: "ssh", Port: 22},
		"ssh://[::1]:22":                                                 {ConnType: "ssh", Host: "::1", Port: 22},
		"ssh://%3A%3A1:22":                                               {ConnType: "ssh", Host: "::1", Port: 22},
		"x://a@b@host":                                                   {ConnType: "x", Login: "a@b", Host: "host"},
		"x://h?k=1&k=2&é=%C3%A9+%f0%9f%98%80":                            {ConnType: "x", Host: "h", Extra: `{"k": "2", "\u00e9": "\u00e9 \ud83d\ude00"}`},
		"  x://h:/s%20t/u#fragment":                                      {ConnType: "x", Host: "h", Schema: "s t/u"},
	} {
		got, err := ParseURI("c", uri)
		want.ConnID = "c"
		if err != nil || got != want {
			t.Errorf("ParseURI(%q)\n got %+v, %v\nwant %+v", uri, got, err, want)
		}
	}
}

func TestParseURIErrors(t *testing.T) {
	for uri, want := range map[string]string{
		"":                              "no type",
		"host:5432/db":                  "no type",
		"://hunter2":                    "no type",
		"a://b://c://hunter2":           "more than two",
		"http://u:hunter2@https://host": "protocol of the host must come before",
		"pg://u:hunter2/x@host":         "port",
		"pg://h:99999":                  "port",
		"pg://h:-1":                     "port",
		"pg://[::1/hunter2":             "bracket",
		"pg://h/?__extra__=hunter2":     "not JSON",
		"pg://h/?__extra__=[1]":         "not an object",
	} {
		_, err := ParseURI("c", uri)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseURI(%q): %v, want an error with %q", uri, err, want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseURI(%q): the error shows the password: %v", uri, err)
		}
	}
}

func TestURI(t *testing.T) {
	for want, c := range map[string]airflow.Connection{
		"postgres://user:p%40ss%2Fw%3Ard@db.example.com:6543/sales?__extra__=%7B%22sslmode%22%3A+%22require%22%2C+%22n%22%3A+%7B%22a%22%3A+%5B1%2C+2%5D%7D%2C+%22flag%22%3A+true%7D": {
			ConnType: "postgres", Login: "user", Password: "p@ss/w:rd", Host: "db.example.com", Port: 6543, Schema: "sales", Extra: `{"sslmode": "require", "n": {"a": [1, 2]}, "flag": true}`},
		"google-cloud-platform:///?a=b+c": {ConnType: "google_cloud_platform", Extra: `{"a":"b c"}`},
		"http://https://u@h:80/s":         {ConnType: "http", Host: "https://h", Login: "u", Port: 80, Schema: "s"},
		"//h":                             {Host: "h"},
		"x://@:1":                         {ConnType: "X", Port: 1},
		"x://:pw@":                        {ConnType: "x", Password: "pw"},
		"x:///?__extra__=%7B%7D":          {ConnType: "x", Extra: "{}"},
	} {
		if got := URI(c); got != want {
			t.Errorf("URI(%+v)\n got %s\nwant %s", c, got, want)
		}
	}
}

func TestParseJSON(t *testing.T) {
	for text, want := range map[string]airflow.Connection{
		`{"conn_type":"postgresql","host":"h","port":"5432","login":null,"extra":{"a":[1,2.50],"b":"é"}}`: {ConnType: "postgres", Host: "h", Port: 5432, Extra: `{"a": [1, 2.50], "b": "\u00e9"}`},
		`{"conn_type":"my-type","extra":"{\"a\":1}","description":"d","port":22}`:                         {ConnType: "my_type", Extra: `{"a":1}`, Description: "d", Port: 22},
		`{"uri":"http://h:80","description":"d"}`:                                                         {ConnType: "http", Host: "h", Port: 80, Description: "d"},
		`{"conn_type":"x","extra":{}}`:                                                                    {ConnType: "x"},
	} {
		got, err := ParseJSON("c", text)
		want.ConnID = "c"
		if err != nil || got != want {
			t.Errorf("ParseJSON(%s)\n got %+v, %v\nwant %+v", text, got, err, want)
		}
	}
	_, err := ParseJSON("c", `{"conn_type":1,"port":"x","pass":"hunter2","extra":[1],"conn_id":"d"}`)
	var invalid *airflow.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Problems) != 5 {
		t.Fatalf("every problem is reported: %v", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a value: %v", err)
	}
	for _, bad := range []string{"", "[", "[1]", `{"uri":"x://h","host":"h"}`, `{} {}`} {
		if _, err := ParseJSON("c", bad); err == nil {
			t.Errorf("ParseJSON(%q) has no error", bad)
		}
	}
}

func TestEnv(t *testing.T) {
	env := map[string]string{"AIRFLOW_CONN_MY_DB": "postgres://h", "AIRFLOW_CONN_J": `{"conn_type":"http"}`, "AIRFLOW_CONN_BAD": "nonsense", "AIRFLOW_CONN_EMPTY": "", "AIRFLOW_VAR_X": "", "AIRFLOW_VAR_Y": "1"}
	e := Env{Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	ctx := context.Background()
	if c, ok, err := e.Connection(ctx, "my_db"); !ok || err != nil || c.Host != "h" || c.ConnID != "my_db" {
		t.Errorf("my_db: %+v %v %v", c, ok, err)
	}
	if c, ok, err := e.Connection(ctx, "j"); !ok || err != nil || c.ConnType != "http" {
		t.Errorf("j: %+v %v %v", c, ok, err)
	}
	if _, ok, err := e.Connection(ctx, "bad"); ok || err == nil {
		t.Errorf("bad: %v %v", ok, err)
	}
	for _, id := range []string{"empty", "none"} {
		if _, ok, err := e.Connection(ctx, id); ok || err != nil {
			t.Errorf("%s: %v %v", id, ok, err)
		}
	}
	if v, ok, _ := e.Variable(ctx, "x"); !ok || v.Value != "" {
		t.Errorf("an empty variable counts: %+v %v", v, ok)
	}
	if _, ok, _ := e.Variable(ctx, "z"); ok {
		t.Error("z is not there")
	}
	if got := Names([]string{"AIRFLOW_VAR_B=1", "AIRFLOW_VAR_A=2", "X=AIRFLOW_VAR_", "AIRFLOW_VAR_=0"}, VarPrefix); !reflect.DeepEqual(got, []string{"A", "B"}) {
		t.Errorf("Names = %v", got)
	}
}

func samples() []airflow.Connection {
	return []airflow.Connection{
		{ConnID: "b", ConnType: "http", Host: "https://x", Port: 1, Extra: `{"k": "v"}`},
		{ConnID: "a", ConnType: "postgres", Login: "u", Password: "p%:/@é", Host: "h", Schema: "s", Description: "d"},
	}
}

func TestExportImport(t *testing.T) {
	for _, f := range []Format{FormatJSON, FormatYAML, FormatEnv} {
		for _, asJSON := range []bool{false, true} {
			out, err := Export(samples(), f, asJSON)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Import(out, f)
			if err != nil {
				t.Fatalf("%s: %v\n%s", f, err, out)
			}
			want := []airflow.Connection{samples()[1], samples()[0]}
			if f == FormatEnv && !asJSON {
				want[0].Description = "" // a URI has no place for it
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s json=%v:\n got %+v\nwant %+v\n%s", f, asJSON, got, want, out)
			}
		}
	}
	out, _ := Export(samples()[:1], FormatJSON, false)
	want := `{
  "b": {
    "conn_type": "http",
    "description": null,
    "login": null,
    "password": null,
    "host": "https://x",
    "port": 1,
    "schema": null,
    "extra": "{\"k\": \"v\"}"
  }
}
`
	if string(out) != want {
		t.Errorf("export as JSON:\n%s", out)
	}
}

func TestImportProblems(t *testing.T) {
	got, err := Import([]byte("a: [postgres://h]\nb: {conn_type: http, extra_dejson: {x: 1}}\n"), FormatYAML)
	if err != nil || len(got) != 2 || got[0].Host != "h" || got[1].Extra != `{"x": 1}` {
		t.Fatalf("%+v %v", got, err)
	}
	_, err = Import([]byte(`{"a":"nonsense","b":{"hots":"x"},"c":3,"d":["x://a","x://b"]}`), FormatJSON)
	var invalid *airflow.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Problems) != 4 {
		t.Errorf("problems: %v", err)
	}
	if _, err := Import([]byte("a=x://h\nb\n#c\n"), FormatEnv); err == nil || !strings.Contains(err.Error(), "2:") && !strings.Contains(err.Error(), "expected conn_id=URI") {
		t.Errorf("env: %v", err)
	}
	for _, f := range []Format{FormatJSON, FormatYAML} {
		if _, err := Import([]byte("[1"), f); err == nil {
			t.Errorf("%s: damaged file read", f)
		}
	}
}

func TestMaskURI(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://u:p@h:1/s":   "postgres://***:***@h:1/s",
		"http://https://u:p@h/s": "http://https://***:***@h/s",
		"http://h/s?a=b@c":       "http://h/s?a=b@c",
		"nonsense":               "***",
	} {
		if got := MaskURI(in); got != want {
			t.Errorf("MaskURI(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCheckID(t *testing.T) {
	for _, ok := range []string{"a", "my_db-1.x"} {
		if err := CheckID(ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a b", "a/b", strings.Repeat("x", 201), "é"} {
		if CheckID(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// FuzzRoundTrip: what URI and JSON write, ParseURI and ParseJSON read back.
func FuzzRoundTrip(f *testing.F) {
	f.Add("http", "https://h", "u", "p@:/", "s/t", 80, "k", "v&=")
	f.Add("pg", "/var/run", "", "%41", "", 0, "__extra__", "{")
	f.Add("a_b", "x://y://z", "é\x00", "", "?#", 65535, "", " +")
	f.Fuzz(func(t *testing.T, typ, host, login, password, schema string, port int, k, v string) {
		for _, s := range []string{typ, host, login, password, schema, k, v} {
			if !utf8.ValidString(s) {
				return
			}
		}
		if _, _, ok := cutScheme(typ + "://"); !ok || typ != NormalizeType(strings.ToLower(typ)) || port < 0 || port > 65535 {
			return
		}
		if host != strings.ToLower(host) {
			return // host names lose their case
		}
		if _, h, ok := cutScheme(host); ok && h == "" {
			return // a protocol without a host cannot be written
		}
		extra, err := json.Marshal(map[string]any{k: v})
		if err != nil {
			t.Fatal(err)
		}
		c := airflow.Connection{ConnID: "c", ConnType: typ, Host: host, Login: login, Password: password, Schema: schema, Port: port, Extra: string(extra)}
		for _, back := range []func() (airflow.Connection, error){
			func() (airflow.Connection, error) { return ParseURI("c", URI(c)) },
			func() (airflow.Connection, error) { return ParseJSON("c", JSON(c)) },
			func() (airflow.Connection, error) { return Parse("c", URI(c)) },
		} {
			got, err := back()
			if err != nil {
				t.Fatalf("%+v → %s: %v", c, URI(c), err)
			}
			var a, b map[string]any
			if json.Unmarshal([]byte(c.Extra), &a) != nil || json.Unmarshal([]byte(got.Extra), &b) != nil || !reflect.DeepEqual(a, b) {
				t.Fatalf("extra %s → %s", c.Extra, got.Extra)
			}
			got.Extra = c.Extra
			if got != c {
				t.Fatalf("%+v → %s → %+v", c, URI(c), got)
			}
		}
	})
}

// FuzzParse: no input makes the readers panic, and what they accept survives a
// second round.
func FuzzParse(f *testing.F) {
	f.Add("http://https://u:p@h:1/s?a=b")
	f.Add(`{"conn_type":"x","extra":{"a":1e5}}`)
	f.Add("x://[::1%25eth0]:1/?__extra__=%7B%7D")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse("c", s)
		if err != nil || c.ConnType == "" {
			return
		}
		if _, _, ok := cutScheme(c.ConnType + "://"); !ok {
			return
		}
		again, err := ParseURI("c", URI(c))
		if err != nil {
			t.Fatalf("%q → %q: %v", s, URI(c), err)
		}
		if again.Password != c.Password || again.Login != c.Login || again.Port != c.Port || again.Schema != c.Schema {
			if utf8.ValidString(c.Password + c.Login + c.Schema) {
				t.Fatalf("%q: %+v → %+v", s, c, again)
			}
		}
	})
}
