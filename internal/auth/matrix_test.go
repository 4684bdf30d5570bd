package auth

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gustflow/gust/internal/store"
)

// The table of rights, written a second time as people read it: for every resource
// who may read, create, edit and delete. V, U, O, A is the least role, - nobody but
// an Admin.
var wantRights = map[Resource]string{
	ResourceDAG: "VUUU", ResourceDagRun: "VUUU", ResourceTaskInstance: "VUUU", ResourceTask: "V---", ResourceTaskLog: "V---",
	ResourceXCom: "VOOO", ResourceDagCode: "V---", ResourceDagVersion: "V---", ResourceDagWarning: "V---", ResourceDagStats: "V---",
	ResourceDependencies: "V---", ResourceImportError: "V---", ResourceBackfill: "VOOO", ResourceHITL: "V-U-",
	ResourceAsset: "VUOO", ResourceAssetAlias: "V---", ResourcePool: "VOOO", ResourceVariable: "OOOO", ResourceConnection: "OOOO",
	ResourceConfig: "O---", ResourceAuditLog: "A---", ResourceUser: "AAAA", ResourceToken: "AAAA", ResourceJob: "V---",
	ResourcePlugin: "O---", ResourceProvider: "O---", ResourceTrigger: "A---", ResourceFavorite: "VVVV", ResourceMenu: "V---",
	ResourceActivity: "V---", ResourceCost: "V---", ResourceAlert: "VOOO",
}

var actions = []Action{Read, Create, Edit, Delete}

// apiServer answers /may/<action>/<resource>?dag=…&tag=… as an API operation that
// needs that right would: 200 or 403, behind the middleware.
func apiServer(s *Service) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/may/{action}/{resource}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := From(r.Context())
		if !id.May(Action(r.PathValue("action")), Resource(r.PathValue("resource")), r.URL.Query().Get("dag"), r.URL.Query()["tag"]) {
			Refuse(w, http.StatusForbidden, "Forbidden")
			return
		}
		w.WriteHeader(http.StatusOK)
	})
	return s.Middleware(mux, nil)
}

// TestMatrix asks for every action on every resource of two DAGs with every kind of
// credential there is.
func TestMatrix(t *testing.T) {
	f := newFixture(t)
	f.handler = serverOf(f.s)
	type actor struct {
		name   string
		header header
		// status for everything, or 0: the role on team-a's DAG, on the other, and elsewhere decides.
		status              int
		teamA, other, whole Role
	}
	var actors []actor
	for _, r := range Roles() {
		f.user("plain-"+string(r), r)
		actors = append(actors, actor{string(r), bearer(f.token("plain-" + string(r))), 0, r, r, r})
	}
	f.user("team", Viewer, store.DagScope{Tag: "team-*", Role: "User"})
	f.user("mixed", Op, store.DagScope{DagID: "*", Role: "Viewer"}, store.DagScope{DagID: "a_?", Role: "Admin"})
	actors = append(actors,
		actor{"User of team-a's DAGs only", bearer(f.token("team")), 0, User, "", Viewer},
		actor{"Viewer of all DAGs, Admin of one, else Op", bearer(f.token("mixed")), 0, Admin, Viewer, Op})

	api := func(owner string, role Role, scopes ...store.DagScope) string {
		t.Helper()
		token, _, err := f.s.CreateAPIToken(t.Context(), NewAPIToken{Owner: owner, Name: "x", Role: role, Scopes: scopes, Life: 100 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	f.user("downgraded", Admin)
	downgraded := api("downgraded", Op)
	if err := f.s.SetRole(t.Context(), "downgraded", Viewer); err != nil {
		t.Fatal(err)
	}
	actors = append(actors,
		actor{"an Admin's token for a Viewer", bearer(api("plain-Admin", Viewer)), 0, Viewer, Viewer, Viewer},
		actor{"an Admin's token for one DAG", bearer(api("plain-Admin", User, store.DagScope{DagID: "a_*"})), 0, User, "", User},
		actor{"a token whose owner has less than it by now", bearer(downgraded), 0, Viewer, Viewer, Viewer},
		actor{"a scoped user's token", bearer(api("team", Viewer)), 0, Viewer, "", Viewer})

	// Credentials that are none.
	f.user("gone", Admin)
	f.user("disabled", Admin)
	f.user("changed", Admin)
	f.user("again", Admin)
	gone, disabled, changed, again, revoked := f.token("gone"), f.token("disabled"), f.token("changed"), f.token("again"), f.token("plain-Admin")
	goneAPI, disabledAPI, againAPI := api("gone", Admin), api("disabled", Admin), api("again", Admin)
	for _, err := range []error{
		f.s.DeleteUser(t.Context(), "gone"), f.s.SetDisabled(t.Context(), "disabled", true), f.s.SetPassword(t.Context(), "changed", "something else 1"),
		f.store.DeleteUser(t.Context(), "again"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if w := f.do("POST", "/auth/logout", nil, bearer(revoked)); w.Code != http.StatusNoContent {
		t.Fatalf("logout: %d %s", w.Code, w.Body)
	}
	revokedAPI := api("plain-Admin", Admin)
	if err := f.s.RevokeAPIToken(t.Context(), strings.Split(revokedAPI, "_")[1]); err != nil {
		t.Fatal(err)
	}
	expiredAPI, _, err := f.s.CreateAPIToken(t.Context(), NewAPIToken{Owner: "plain-Admin", Name: "x", Life: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	cli := f.do("POST", "/auth/token/cli", creds("plain-Admin", goodPassword), nil)
	f.now = f.now.Add(2 * time.Hour)
	f.user("again", Admin) // somebody else under the old name
	expired := strings.Split(cli.Body.String(), `"`)[3]
	fresh := f.token("plain-Admin")

	refused := func(name, token string) {
		actors = append(actors, actor{name: name, header: bearer(token), status: 403})
	}
	actors = append(actors, actor{name: "anonymous", status: 401}, actor{name: "Basic", header: header{"Authorization": "Basic cGxhaW4tQWRtaW46eA=="}, status: 401},
		actor{name: "an empty cookie", header: header{"Cookie": "_token="}, status: 401}, actor{name: "an expired cookie", header: header{"Cookie": "_token=" + expired}, status: 401},
		actor{name: "a session", header: header{"Cookie": "_token=" + fresh}, teamA: Admin, other: Admin, whole: Admin})
	refused("an expired token", expired)
	refused("a revoked token", revoked)
	refused("a token of a deleted user", gone)
	refused("a token of a disabled user", disabled)
	refused("a token from before the password", changed)
	refused("a token of an earlier user of that name", again)
	refused("an expired API token", expiredAPI)
	refused("a revoked API token", revokedAPI)
	refused("an API token of a deleted user", goneAPI)
	refused("an API token of a disabled user", disabledAPI)
	refused("an API token of an earlier user of that name", againAPI)
	refused("an API token with another secret", againAPI[:22]+strings.Repeat("0", 64))
	refused("a worker's token", "worker-token-0123456789")
	for name, token := range f.forgeries("plain-Admin", fresh) {
		refused(name, token)
	}

	h := apiServer(f.s)
	asked := 0
	for _, a := range actors {
		for resource, letters := range wantRights {
			for i, action := range actions {
				for _, place := range []struct {
					query string
					role  Role
				}{{"?dag=a_1&tag=x&tag=team-a", a.teamA}, {"?dag=b_1&tag=x", a.other}} {
					role := place.role
					if !permissions[resource].perDag {
						role = a.whole
					}
					want := a.status
					if want == 0 {
						want = 403
						least, open := map[byte]Role{'V': Viewer, 'U': User, 'O': Op, 'A': Admin}[letters[i]], letters[i] != '-'
						if role == Admin || open && role.Includes(least) {
							want = 200
						}
					}
					f.handler = h
					hd := header{"Sec-Fetch-Site": "same-origin"}
					for k, v := range a.header {
						hd[k] = v
					}
					path := fmt.Sprintf("/may/%s/%s%s", action, resource, place.query)
					method := map[Action]string{Read: "GET", Create: "POST", Edit: "PATCH", Delete: "DELETE"}[action]
					if w := f.do(method, path, nil, hd); w.Code != want {
						t.Errorf("%s: %s %s: %d, want %d", a.name, method, path, w.Code, want)
					}
					asked++
				}
			}
		}
	}
	t.Logf("%d questions of %d actors on %d resources", asked, len(actors), len(wantRights))
	for r := range permissions {
		if _, ok := wantRights[r]; !ok {
			t.Errorf("resource %s is not in the matrix", r)
		}
	}
	if id := (Identity{Role: Op}); id.May(Read, "something new", "", nil) || !(Identity{Role: Admin}).May(Read, "something new", "", nil) {
		t.Error("an unknown resource must be for Admins only")
	}
}

// forgeries are tokens that look like a good one of user and are not.
func (f *fixture) forgeries(user, good string) map[string]string {
	f.t.Helper()
	keys, err := f.store.SigningKeys(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	u, err := f.store.GetUser(f.t.Context(), user)
	if err != nil {
		f.t.Fatal(err)
	}
	key := keys[0]
	sign := func(method jwt.SigningMethod, secret any, change func(*claims, map[string]any)) string {
		c := claims{RegisteredClaims: jwt.RegisteredClaims{
			Issuer: "gust", Subject: user, Audience: jwt.ClaimStrings{"apache-airflow"}, ID: "x",
			IssuedAt: jwt.NewNumericDate(f.now), NotBefore: jwt.NewNumericDate(f.now), ExpiresAt: jwt.NewNumericDate(f.now.Add(time.Hour)),
		}, Kind: KindUser, Generation: u.Generation}
		head := map[string]any{"kid": key.KeyID}
		if change != nil {
			change(&c, head)
		}
		t := jwt.NewWithClaims(method, c)
		for k, v := range head {
			t.Header[k] = v
			if v == nil {
				delete(t.Header, k)
			}
		}
		s, err := t.SignedString(secret)
		if err != nil {
			f.t.Fatal(err)
		}
		return s
	}
	hs := jwt.SigningMethodHS512
	// The same without a change is taken: the cases below fail for what they change.
	f.want(f.echo(bearer(sign(hs, key.Secret, nil))), 200, user)
	parts := strings.Split(good, ".")
	cases := map[string]string{
		"alg none":              sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil),
		"alg HS256":             sign(jwt.SigningMethodHS256, key.Secret, nil),
		"alg HS384":             sign(jwt.SigningMethodHS384, key.Secret, nil),
		"another key":           sign(hs, []byte(strings.Repeat("k", 64)), nil),
		"the kid as key":        sign(hs, []byte(key.KeyID), nil),
		"unknown kid":           sign(hs, key.Secret, func(_ *claims, h map[string]any) { h["kid"] = "0000000000000000" }),
		"no kid":                sign(hs, key.Secret, func(_ *claims, h map[string]any) { h["kid"] = nil }),
		"a kid that is a path":  sign(hs, key.Secret, func(_ *claims, h map[string]any) { h["kid"] = "../../dev/null" }),
		"another issuer":        sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Issuer = "else" }),
		"no issuer":             sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Issuer = "" }),
		"another audience":      sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Audience = jwt.ClaimStrings{"else"} }),
		"an execution token":    sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Audience = jwt.ClaimStrings{"urn:airflow.apache.org:task"} }),
		"no audience":           sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Audience = nil }),
		"no expiry":             sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.ExpiresAt = nil }),
		"an expiry in the past": sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.ExpiresAt = jwt.NewNumericDate(f.now.Add(-time.Minute)) }),
		"not yet valid":         sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.NotBefore = jwt.NewNumericDate(f.now.Add(time.Minute)) }),
		"issued in the future":  sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.IssuedAt = jwt.NewNumericDate(f.now.Add(time.Minute)) }),
		"no nbf":                sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.NotBefore = nil }),
		"no iat":                sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.IssuedAt = nil }),
		"no jti":                sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.ID = "" }),
		"no subject":            sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Subject = "" }),
		"another subject":       sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Subject = "plain-Op" }),
		"no generation":         sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Generation = "" }),
		"kind token":            sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Kind = KindAPI }),
		"no kind":               sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Kind = "" }),
		"kind execution":        sign(hs, key.Secret, func(c *claims, _ map[string]any) { c.Kind = "execution" }),
		"no signature":          parts[0] + "." + parts[1] + ".",
		"two parts":             parts[0] + "." + parts[1],
		"other claims":          parts[0] + "." + strings.Split(sign(hs, []byte("x"), nil), ".")[1] + "." + parts[2],
		"a changed signature":   parts[0] + "." + parts[1] + "." + flip(parts[2]),
		"very long":             good + strings.Repeat("A", 1<<20),
		"rubbish":               "a.b.c",
	}
	return cases
}

// flip changes the first character of a text.
func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

func TestScopes(t *testing.T) {
	id := Identity{Role: Viewer, scopes: scopesOf([]store.DagScope{{Tag: "team-a", Role: "User"}, {DagID: "etl_[x]*"}}, Viewer)}
	for _, c := range []struct {
		action Action
		dag    string
		tags   []string
		want   bool
	}{
		{Read, "any", []string{"team-a"}, true}, {Edit, "any", []string{"b", "team-a"}, true}, {Edit, "any", []string{"team-ab"}, false},
		{Read, "any", nil, false}, {Read, "etl_[x]1", nil, true}, {Edit, "etl_[x]1", nil, false}, {Read, "etl_x1", nil, false},
		{Read, "", nil, true}, {Edit, "", nil, true}, {Read, "etl_[x]/deep/er", nil, true},
	} {
		if got := id.May(c.action, ResourceDAG, c.dag, c.tags); got != c.want {
			t.Errorf("%s %q %v: %v, want %v", c.action, c.dag, c.tags, got, c.want)
		}
	}
	if id.Unlimited() || !(Identity{Role: Viewer}).Unlimited() {
		t.Error("Unlimited is not what scopes say")
	}
	for _, bad := range []string{"", "etl", "dag:", "x:y", "dag:a=King"} {
		if _, err := ParseScope(bad); err == nil {
			t.Errorf("scope %q is taken", bad)
		}
	}
	for _, good := range []string{"dag:*", "tag:team-a=User", "dag:a_?=Admin"} {
		d, err := ParseScope(good)
		if err != nil || FormatScope(d) != good {
			t.Errorf("scope %q: %q, %v", good, FormatScope(d), err)
		}
	}
	if !slices.IsSortedFunc(Roles(), func(a, b Role) int { return a.rank() - b.rank() }) {
		t.Error("roles are not in order")
	}
}
