package mask

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/gustflow/gust/internal/airflow"
)

func TestMask(t *testing.T) {
	m := New(Options{})
	if got := m.Mask("hunter22"); got != "hunter22" {
		t.Fatalf("without secrets: %q", got)
	}
	for _, s := range []string{"hunter22", "abcd", "airflow", "Airflow", "p@ss w/rd", "über\"geheim", "abcde", "deXYZ", "-----BEGIN KEY-----\nMIIEvQIBADAN\nab\n-----END KEY-----\n"} {
		m.Add(s)
	}
	for in, want := range map[string]string{
		"pw=hunter22!":          "pw=***!",
		"hunter22hunter22":      "******",
		"hunter2":               "hunter2",
		"abcd airflow":          "abcd airflow",
		"p@ss w/rd":             "***",
		"p%40ss%20w/rd":         "***",
		"p%40ss%20w%2Frd":       "***",
		"p%40ss+w%2Frd":         "***",
		`{"k": "über\"geheim"}`: `{"k": "***"}`,
		"abcdeXYZ":              "***",
		"x MIIEvQIBADAN x":      "x *** x",
		"ab":                    "ab",
		"":                      "",
	} {
		if got := m.Mask(in); got != want {
			t.Errorf("Mask(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSensitiveNames(t *testing.T) {
	m := New(Options{Names: []string{" Comment ", ""}})
	for name, want := range map[string]bool{
		"password": true, "DB_PASSWORD": true, "my-api-key": true, "x.Private  Key": true, "token": true, "a_comment": true,
		"key": false, "": false, "pass_word": false, "host": false, "proxy": true, "slack webhook url": true,
	} {
		if m.Sensitive(name) != want {
			t.Errorf("Sensitive(%q) = %v", name, !want)
		}
	}
	if New(Options{ShowSensitive: true}).Sensitive("password") {
		t.Error("hide_sensitive_var_conn_fields = False is ignored")
	}
}

func TestAddFromEntities(t *testing.T) {
	m := New(Options{})
	m.AddConnection(airflow.Connection{Password: "s3cret-pw", Extra: `{"region":"eu-central","aws_secret_access_key":"AKIA/abc+","nested":{"tokens":["t0ken-1"]}}`})
	m.AddVariable(airflow.Variable{Key: "slack_token", Value: "xoxb-123456"})
	m.AddVariable(airflow.Variable{Key: "plain", Value: "visible-text"})
	m.AddVariable(airflow.Variable{Key: "conf", Value: `{"api_key": "k-987654"}`})
	got := m.Mask("s3cret-pw eu-central AKIA/abc+ t0ken-1 xoxb-123456 visible-text k-987654")
	if want := "*** eu-central *** *** *** visible-text ***"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	err := fmt.Errorf("login with s3cret-pw: %w", io.EOF)
	if e := m.Error(err); e.Error() != "login with ***: EOF" || !errors.Is(e, io.EOF) {
		t.Errorf("Error = %v", e)
	}
}

func TestJSON(t *testing.T) {
	m := New(Options{})
	m.Add("hunter22")
	for in, want := range map[string]string{
		`{"b":1,"password":"x","a":"say hunter22"}`:         `{"b":1,"password":"***","a":"say ***"}`,
		`{"secret":{"n":1.50,"s":["x",true,null]}}`:         `{"secret":{"n":1.50,"s":["***",true,null]}}`,
		`{"a":{"b":{"c":{"d":{"e":{"f":{"token":"x"}}}}}}}`: `{"a":{"b":{"c":{"d":{"e":{"f":{"token":"***"}}}}}}}`,
		`{"token":[[[[[["deep"],{"x":1}]]]]],"z":2}`:        `{"token":[[[[["***","***"]]]]],"z":2}`,
		`"hunter22"`:    `"***"`,
		`[1e400,"<&>"]`: `[1e400,"<&>"]`,
		`{"broken`:      `"***"`,
		`1 2`:           `"***"`,
		``:              ``,
	} {
		if got := string(m.JSON([]byte(in))); got != want {
			t.Errorf("JSON(%s)\n got %s\nwant %s", in, got, want)
		}
	}
	if got := m.Value("my_password", "x"); got != "***" {
		t.Errorf("Value = %q", got)
	}
	if got := m.Value("conf", `{"token":"x"}`); got != `{"token":"***"}` {
		t.Errorf("Value = %q", got)
	}
	if got := m.Value("conf", `{not json hunter22`); got != `{not json ***` {
		t.Errorf("Value = %q", got)
	}
}

// However a stream is cut into writes, the output is that of masking it whole.
func TestWriterEqualsMask(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := New(Options{MinLength: 2})
		for _, s := range rapid.SliceOfN(rapid.StringMatching(`[ab]{2,6}|[ab]\n[ab]{1,3}`), 1, 5).Draw(t, "secrets") {
			m.Add(s)
		}
		text := rapid.StringMatching(`[abc\n]{0,60}`).Draw(t, "text")
		var b bytes.Buffer
		w := m.Writer(&b)
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			if k, err := w.Write([]byte(rest[:n])); k != n || err != nil {
				t.Fatalf("Write = %d, %v", k, err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if want := m.Mask(text); b.String() != want {
			t.Fatalf("%q: streamed %q, whole %q", text, b.String(), want)
		}
	})
}

// Nothing that is masked still contains a secret.
func TestNoSecretIsLeft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := New(Options{MinLength: 2})
		secrets := rapid.SliceOfN(rapid.StringMatching(`[abc]{2,5}`), 1, 4).Draw(t, "secrets")
		for _, s := range secrets {
			m.Add(s)
		}
		got := m.Mask(rapid.StringMatching(`[abcd]{0,40}`).Draw(t, "text"))
		for _, s := range secrets {
			if strings.Contains(got, s) {
				t.Fatalf("%q is left in %q", s, got)
			}
		}
	})
}

func TestWriterHoldsNoMoreThanNeeded(t *testing.T) {
	m := New(Options{})
	m.Add("hunter22")
	var b bytes.Buffer
	w := m.Writer(&b)
	fmt.Fprint(w, "line one\nhun")
	if b.String() != "line one\n" {
		t.Errorf("written at once: %q", b.String())
	}
	fmt.Fprint(w, "ger\n")
	if b.String() != "line one\nhunger\n" {
		t.Errorf("then: %q", b.String())
	}
}

func TestConcurrentUse(t *testing.T) {
	m := New(Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range 50 {
				s := fmt.Sprintf("secret-%d-%d", i, j)
				m.Add(s)
				if got := m.Mask("x " + s); got != "x ***" {
					t.Errorf("got %q", got)
				}
			}
		}()
	}
	wg.Wait()
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"password":[{"a":"b"}],"x":"hunter22"}`))
	m := New(Options{})
	m.Add("hunter22")
	f.Fuzz(func(t *testing.T, b []byte) {
		out := m.JSON(b)
		if len(bytes.TrimSpace(b)) > 0 && !json.Valid(out) {
			t.Fatalf("%q → %q is not JSON", b, out)
		}
	})
}

func BenchmarkMask(b *testing.B) {
	line := strings.Repeat("a line of a log with nothing in it, 0123456789 ", 4)
	for _, n := range []int{0, 1, 100} {
		m := New(Options{})
		for i := range n {
			m.Add(fmt.Sprintf("secret-value-%d", i))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				m.Mask(line)
			}
		})
	}
}
