package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/localapp"
)

// who are the users as `users list` tells them.
func (s *shell) who() map[string]map[string]any {
	s.t.Helper()
	out := map[string]map[string]any{}
	for _, u := range s.list("users", "list", "-o", "json") {
		out[u["username"].(string)] = u
	}
	return out
}

func TestUsers(t *testing.T) {
	s := newShell(t)
	s.fails(ExitUsage, "required flag", "users", "create", "-u", "jo")
	s.fails(ExitUsage, "expected Viewer, User, Op or Admin", "users", "create", "-u", "jo", "-r", "King", "-p", "long enough")
	s.fails(ExitFailed, "at least 8 characters", "users", "create", "-u", "jo", "-r", "User", "-p", "short")
	s.fails(ExitUsage, "no password", "users", "create", "-u", "jo", "-r", "User")

	// Airflow's FAB verbs and flags.
	s.ok("users", "create", "--username", "jo", "--firstname", "Jo", "--lastname", "Doe", "--role", "admin", "--email", "jo@example.com", "--password", "long enough")
	s.fails(ExitFailed, "already exists", "users", "create", "-u", "jo", "-r", "User", "-p", "long enough")
	made := s.list("users", "create", "-u", "ci", "-r", "Viewer", "--scope", "tag:team-a=User", "--use-random-password", "-o", "json")
	if p, _ := made[0]["password"].(string); len(p) != 20 {
		t.Errorf("a generated password is shown: %v", made)
	}
	users := s.who()
	if users["jo"]["email"] != "jo@example.com" || users["jo"]["roles"].([]any)[0] != "Admin" || users["jo"]["active"] != true {
		t.Errorf("jo: %v", users["jo"])
	}
	if sc, _ := json.Marshal(users["ci"]["dag_scopes"]); string(sc) != `["tag:team-a=User"]` {
		t.Errorf("ci: %v", users["ci"])
	}
	if text := s.ok("users", "list", "-o", "json"); strings.Contains(text, "argon2") || strings.Contains(text, "password") || strings.Contains(text, "generation") {
		t.Errorf("what proves who somebody is gets listed: %s", text)
	}

	s.fails(ExitFailed, "last Admin", "users", "delete", "-u", "jo")
	s.fails(ExitFailed, "last Admin", "users", "set-role", "-u", "jo", "-r", "Op")
	s.fails(ExitFailed, "last Admin", "users", "disable", "-u", "jo")
	s.ok("users", "set-role", "-u", "ci", "-r", "Admin")
	s.ok("users", "set-scopes", "-u", "ci")
	s.ok("users", "disable", "-u", "jo")
	s.fails(ExitFailed, "last Admin", "users", "delete", "-u", "ci")
	s.ok("users", "enable", "-u", "jo")
	s.ok("users", "reset-password", "-u", "jo", "-p", "another one")
	s.ok("users", "delete", "-u", "ci")
	s.fails(ExitFailed, `user "ci" does not exist`, "users", "delete", "-u", "ci")
	if users := s.who(); len(users) != 1 || users["jo"]["active"] != true {
		t.Errorf("in the end: %v", users)
	}
}

func TestTokens(t *testing.T) {
	s := newShell(t)
	s.ok("users", "create", "-u", "ci", "-r", "User", "-p", "long enough")
	s.fails(ExitFailed, `user "nobody" does not exist`, "tokens", "create", "-u", "nobody", "--name", "x")
	s.fails(ExitFailed, "at most the owner's, User", "tokens", "create", "-u", "ci", "--name", "x", "-r", "Admin")
	s.fails(ExitUsage, "expected dag:PATTERN or tag:PATTERN", "tokens", "create", "-u", "ci", "--name", "x", "--scope", "etl")
	made := s.list("tokens", "create", "-u", "ci", "--name", "deploy", "-r", "Viewer", "--scope", "dag:etl_*", "-o", "json")[0]
	token, id := made["token"].(string), made["id"].(string)
	if !strings.HasPrefix(token, "gust_"+id+"_") {
		t.Errorf("token %q", token)
	}
	listed := s.ok("tokens", "list", "-o", "json")
	if strings.Contains(listed, token[len("gust_")+17:]) || !strings.Contains(listed, `"dag:etl_*"`) {
		t.Errorf("list: %s", listed)
	}
	s.ok("tokens", "revoke", id)
	s.fails(ExitFailed, "does not exist", "tokens", "revoke", id)
}

func TestRotateKeys(t *testing.T) {
	s := newShell(t)
	first, second := s.ok("auth", "rotate-keys"), s.ok("auth", "rotate-keys")
	if !strings.Contains(second, "2 keys verify") || first == second {
		t.Errorf("rotated: %q, %q", first, second)
	}
	s.ok("auth", "rotate-keys", "--log-everyone-out")
	a, err := localapp.Open(t.Context(), localapp.Options{Home: s.home})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if keys, err := a.Store.SigningKeys(t.Context()); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v; want one", len(keys), err)
	}
}

func TestFirstPassword(t *testing.T) {
	s := newShell(t)
	s.stdin = strings.Repeat("0123456789abcdef", 4) + "\n"
	// Deployments that nobody has signed in to yet wait for this very password.
	if got := s.list("auth", "first-password")[0]; got["username"] != "admin" || got["password"] != "dwxh2md3choemjfkepgulyal" {
		t.Errorf("%v", got)
	}
	s.stdin = "short"
	s.fails(ExitFailed, "the deployment's key secret", "auth", "first-password")
}
