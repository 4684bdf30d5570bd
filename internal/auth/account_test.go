package auth

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/store"
)

func TestAccount(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User, store.DagScope{Tag: "a"})
	jo := bearer(f.token("jo"))
	for _, c := range []struct{ method, path string }{{"GET", "/auth/me"}, {"POST", "/auth/password"}, {"GET", "/auth/tokens"}, {"POST", "/auth/tokens"}, {"DELETE", "/auth/tokens/x"}} {
		f.want(f.do(c.method, c.path, nil, nil), 401, "Not authenticated")
	}
	f.want(f.do("GET", "/auth/me", nil, jo), 200, `"scopes":[{"tag":"a"}],"username":"jo"`)

	// API tokens.
	for body, said := range map[string]string{
		`{}`: "name:", `{"name":"x","role":"Admin"}`: "at most the owner's", `{"name":"x","role":"King"}`: "role", `{"name":"x","days":-1}`: "days:",
		`{"name":"x","zz":1}`: "unknown field", `{"name":"x","scopes":[{}]}`: "DAG scope", `{"name":"x"}{}`: "follows",
	} {
		f.want(f.do("POST", "/auth/tokens", body, jo), 422, said)
	}
	w := f.do("POST", "/auth/tokens", `{"name":"deploy","role":"Viewer","days":1}`, jo)
	var made tokenView
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || w.Code != http.StatusCreated || made.Token == "" || made.ExpiresAt == nil {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	list := f.do("GET", "/auth/tokens", nil, jo)
	f.want(list, 200, `"total_entries":1`)
	if strings.Contains(list.Body.String(), `"token"`) || strings.Contains(list.Body.String(), "hash") {
		t.Errorf("a secret is listed: %s", list.Body)
	}
	api := bearer(made.Token)
	f.want(f.echo(api), 200, `"kind":"token"`)
	f.want(f.do("GET", "/auth/me", nil, api), 200, "jo")
	f.want(f.do("POST", "/auth/tokens", `{"name":"more"}`, api), 403, "Sign in for this")
	f.want(f.do("POST", "/auth/password", `{}`, api), 403, "Sign in for this")
	f.want(f.do("DELETE", "/auth/tokens/"+made.ID, nil, api), 403, "Sign in for this")
	f.want(f.do("POST", "/auth/logout", nil, api), 400, "no session")
	f.user("mo", Op)
	f.user("boss", Admin)
	f.want(f.do("DELETE", "/auth/tokens/"+made.ID, nil, bearer(f.token("mo"))), 404, "does not exist")
	f.want(f.do("GET", "/auth/tokens", nil, bearer(f.token("mo"))), 200, `"tokens":[]`)
	f.want(f.echo(api), 200, "jo")
	f.want(f.do("DELETE", "/auth/tokens/"+made.ID, nil, bearer(f.token("boss"))), 204, "")
	f.want(f.echo(api), 403, "Invalid")

	// The password.
	f.want(f.do("POST", "/auth/password", map[string]string{"current_password": "wrong", "new_password": "another one"}, jo), 403, "not the password")
	f.want(f.do("POST", "/auth/password", map[string]string{"current_password": goodPassword, "new_password": "short"}, jo), 422, "at least 8")
	session := sessionCookie(t, f.form(goodForm("jo"), nil))
	cookie := header{"Cookie": CookieName + "=" + session.Value, "Sec-Fetch-Site": "same-origin"}
	w = f.do("POST", "/auth/password", map[string]string{"current_password": goodPassword, "new_password": "another one"}, cookie)
	f.want(w, 204, "")
	f.want(f.echo(cookie), 401, "Not authenticated")
	f.want(f.echo(jo), 403, "Invalid")
	f.want(f.echo(header{"Cookie": CookieName + "=" + sessionCookie(t, w).Value}), 200, "jo")
	f.want(f.do("POST", "/auth/token", creds("jo", goodPassword), nil), 401, "Invalid")
	f.want(f.do("POST", "/auth/token", creds("jo", "another one"), nil), 201, "access_token")
	// Whoever finds a session open gets no more guesses than at the door.
	in := bearer(f.s.must(t, "jo"))
	last := 0
	for range signInsPerAccount + 1 {
		last = f.do("POST", "/auth/password", map[string]string{"current_password": "guess", "new_password": "another one"}, in).Code
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("guesses at the password of a session: %d", last)
	}
	// Another site cannot do any of it with a session.
	f.want(f.do("POST", "/auth/tokens", `{"name":"x"}`, header{"Cookie": CookieName + "=" + f.s.must(t, "jo"), "Sec-Fetch-Site": "cross-site"}), 403, "CSRF")
}

// must issues a token for a user without a password.
func (s *Service) must(t *testing.T, name string) string {
	t.Helper()
	u, err := s.store.GetUser(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.issue(t.Context(), u, KindUser)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
