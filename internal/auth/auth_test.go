package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/secrets"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// fixture is a service over a store in memory, with a clock that tests move, and
// everything a server has in front of the API.
type fixture struct {
	t       *testing.T
	s       *Service
	store   *store.Store
	now     time.Time
	handler http.Handler
}

const goodPassword = "correct horse battery"

func newFixture(t *testing.T, options ...func(*Options)) *fixture {
	t.Helper()
	sealer, err := secrets.OpenOrCreate(t.TempDir() + "/secrets.key")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: store.New(memkv.New(memkv.Options{}), sealer), now: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)}
	o := Options{Store: f.store, Now: func() time.Time { return f.now }}
	for _, set := range options {
		set(&o)
	}
	if f.s, err = New(o); err != nil {
		t.Fatal(err)
	}
	f.handler = serverOf(f.s)
	return f
}

// serverOf wires a service as a server does. /api/v2/echo says who asks.
func serverOf(s *Service) http.Handler {
	mux := http.NewServeMux()
	s.Routes(mux)
	api := http.NewServeMux()
	api.HandleFunc("/api/v2/echo", func(w http.ResponseWriter, r *http.Request) {
		id, _ := From(r.Context())
		writeJSON(w, http.StatusOK, map[string]string{"name": id.Name, "role": string(id.Role), "kind": string(id.Kind), "source": id.Source})
	})
	api.HandleFunc("/api/v2/version", func(w http.ResponseWriter, r *http.Request) {
		id, _ := From(r.Context())
		writeJSON(w, http.StatusOK, map[string]string{"name": id.Name})
	})
	mux.Handle("/api/v2/", s.Middleware(api, func(r *http.Request) bool { return r.URL.Path == "/api/v2/version" }))
	return s.SecurityHeaders(LimitBody(mux, 1<<20))
}

func (f *fixture) user(name string, role Role, scopes ...store.DagScope) {
	f.t.Helper()
	if _, err := f.s.CreateUser(f.t.Context(), NewUser{Username: name, Password: goodPassword, Role: role, Scopes: scopes}); err != nil {
		f.t.Fatal(err)
	}
}

type header map[string]string

// do sends a request as a program would.
func (f *fixture) do(method, target string, body any, h header) *httptest.ResponseRecorder {
	f.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			f.t.Fatal(err)
		}
		in = bytes.NewReader(j)
	}
	r := httptest.NewRequestWithContext(f.t.Context(), method, target, in)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range h {
		switch k {
		case "from":
			r.RemoteAddr = v
		case "Host":
			r.Host = v
		default:
			r.Header.Set(k, v)
		}
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

func (f *fixture) want(w *httptest.ResponseRecorder, status int, part string) {
	f.t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), part) {
		f.t.Errorf("answer %d %s, want %d with %q", w.Code, w.Body.String(), status, part)
	}
}

func creds(name, password string) map[string]string {
	return map[string]string{"username": name, "password": password}
}

// token signs in and returns the token.
func (f *fixture) token(name string) string {
	f.t.Helper()
	w := f.do("POST", "/auth/token", creds(name, goodPassword), nil)
	var got struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusCreated || got.AccessToken == "" {
		f.t.Fatalf("POST /auth/token: %d %s", w.Code, w.Body)
	}
	return got.AccessToken
}

func bearer(token string) header { return header{"Authorization": "Bearer " + token} }

func (f *fixture) echo(h header) *httptest.ResponseRecorder {
	f.t.Helper()
	return f.do("GET", "/api/v2/echo", nil, h)
}

func TestToken(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User)
	f.want(f.echo(bearer(f.token("jo"))), 200, `"name":"jo"`)
	f.want(f.echo(nil), 401, `{"detail":"Not authenticated"}`)
	f.want(f.echo(header{"Authorization": "Basic am86eA=="}), 401, `Not authenticated`)
	f.want(f.echo(bearer("nonsense")), 403, `{"detail":"Invalid JWT token"}`)
	f.want(f.do("GET", "/api/v2/version", nil, nil), 200, `"name":""`)
	f.want(f.do("GET", "/api/v2/version", nil, bearer("nonsense")), 200, `"name":""`)
	f.want(f.do("POST", "/auth/token", creds("jo", "wrong"), nil), 401, `{"detail":"Invalid credentials"}`)
	f.want(f.do("POST", "/auth/token", creds("nobody", goodPassword), nil), 401, `{"detail":"Invalid credentials"}`)
	for _, body := range []any{`{`, `[]`, map[string]string{"username": "jo"}, map[string]any{"username": "jo", "password": 1}, map[string]string{"username": "jo", "password": "x", "zz": "1"}, `{"username":"jo","password":"x"} {}`, `"jo"`, ``} {
		w := f.do("POST", "/auth/token", body, nil)
		var got struct {
			Detail string `json:"detail"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 422 || got.Detail == "" {
			t.Errorf("body %v: %d %s, want 422 and one text", body, w.Code, w.Body)
		}
	}
}

func TestNewNeedsAStore(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a service without a store")
	}
	if _, err := New(Options{Store: store.New(memkv.New(memkv.Options{}), nil), BaseURL: "gust.example.com"}); err == nil {
		t.Error("a base URL that is none is taken")
	}
	if errors.Is(errNobody, errToken) {
		t.Error("the two refusals are one")
	}
}

// TestMain makes hashes cheap: what they cost in earnest is TestPasswordHash's.
func TestMain(m *testing.M) {
	passwordCost = argonParams{64, 1, 1}
	os.Exit(m.Run())
}
