package uiapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/secrets"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/uiapi"
)

// TestPermissions asks the UI's endpoints behind a real sign-in: without one, with a
// token that is none, and as somebody who has another team's DAGs.
func TestPermissions(t *testing.T) {
	ctx := t.Context()
	keys, err := secrets.OpenOrCreate(t.TempDir() + "/secrets.key")
	if err != nil {
		t.Fatal(err)
	}
	st := store.New(memkv.New(memkv.Options{}), keys)
	for dag, team := range map[airflow.DagID]string{"mine": "team-a", "theirs": "team-b"} {
		if err := st.CreateDag(ctx, airflow.DagModel{DagID: dag, Tags: []string{team}, Fileloc: "x.yml"}); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-time.Hour).UTC()
		if err := st.CreateRun(ctx, airflow.DagRun{DagID: dag, RunID: "r", State: airflow.RunFailed, RunType: airflow.RunTypeManual, RunAfter: at, EndDate: &at}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := auth.New(auth.Options{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	h := s.Handler(uiapi.Site{
		Options: uiapi.Options{Store: st, Engine: engine.New(engine.Options{Store: st, Passive: true}), Now: time.Now},
		API:     http.NotFoundHandler(), Auth: s.Middleware,
	}.Handler())
	do := func(method, path, body, token string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequestWithContext(ctx, method, path, io.NopCloser(strings.NewReader(body)))
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	token := func(name string, role auth.Role, scopes ...store.DagScope) string {
		t.Helper()
		if _, err := s.CreateUser(ctx, auth.NewUser{Username: name, Password: "correct horse", Role: role, Scopes: scopes}); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Token string `json:"access_token"`
		}
		w := do("POST", "/auth/token", `{"username":"`+name+`","password":"correct horse"}`, "")
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Token == "" {
			t.Fatalf("sign in: %d %s", w.Code, w.Body)
		}
		return got.Token
	}
	scoped, boss := token("scoped", auth.Viewer, store.DagScope{Tag: "team-a", Role: "Admin"}), token("boss", auth.Admin)
	seen := 0
	for _, path := range []string{"/ui/session", "/ui/dags", "/ui/home", "/ui/nothing"} {
		if w := do("GET", path, "", ""); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", path, w.Code)
		}
		if w := do("GET", path, "", "nonsense"); w.Code != http.StatusForbidden {
			t.Errorf("%s with a token that is none: %d", path, w.Code)
		}
		if w := do("GET", path, "", scoped); w.Code >= 500 || strings.Contains(w.Body.String(), "theirs") || strings.Contains(w.Body.String(), "team-b") {
			t.Errorf("%s: %d %s; tells of another team's DAG", path, w.Code, w.Body)
		}
		if strings.Contains(do("GET", path, "", boss).Body.String(), "theirs") {
			seen++
		}
	}
	if seen == 0 {
		t.Error("an Admin sees the other DAG nowhere: this test proves nothing")
	}
	for _, path := range []string{"structure", "states", "days", "runs/r/instances"} {
		absent := do("GET", "/ui/dags/absent/"+path, "", scoped)
		theirs := do("GET", "/ui/dags/theirs/"+path, "", scoped)
		if theirs.Code != http.StatusNotFound || strings.ReplaceAll(theirs.Body.String(), "theirs", "absent") != absent.Body.String() {
			t.Errorf("%s of another team's DAG: %d %s, want what an absent one gets: %d %s", path, theirs.Code, theirs.Body, absent.Code, absent.Body)
		}
	}
}
