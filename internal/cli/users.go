package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/store"
)

// usersCommands are the verbs about who may sign in; those of users are Airflow's
// FAB provider's.
func (c *command) usersCommands() []*cobra.Command {
	return []*cobra.Command{
		group("users", "Manage users", c.usersCreate(), c.usersList(), c.usersDelete(), c.usersResetPassword(), c.usersSetRole(), c.usersSetScopes(), c.usersSwitch(true), c.usersSwitch(false)),
		group("tokens", "Manage API tokens", c.tokensCreate(), c.tokensList(), c.tokensRevoke()),
		group("auth", "Manage the keys that sign tokens, and the first sign-in", c.rotateKeys(), c.firstPassword()),
	}
}

// openAuth opens the home and who may sign in to it.
func (c *command) openAuth(ctx context.Context) (*localapp.App, *auth.Service, error) {
	a, err := c.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := a.NewAuth()
	return a, s, err
}

func scopeTexts(in []store.DagScope) []string {
	out := make([]string, 0, len(in))
	for _, d := range in {
		out = append(out, auth.FormatScope(d))
	}
	return out
}

func timeOrNil(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// userRow is a user as FAB's CLI shows one, and what Gust knows besides. What proves
// who somebody is is never shown.
func userRow(u store.User) row {
	return row{
		{"username", u.Username}, {"email", u.Email}, {"first_name", u.FirstName}, {"last_name", u.LastName}, {"roles", []string{u.Role}},
		{"dag_scopes", scopeTexts(u.Scopes)}, {"active", !u.Disabled}, {"provider", u.Provider}, {"last_login", timeOrNil(u.LastLogin)},
	}
}

func roleFlag(text string) (auth.Role, error) {
	r, err := auth.ParseRole(text)
	if err != nil {
		return "", usageError{fmt.Errorf("--role: %w", err)}
	}
	return r, nil
}

func scopeFlags(texts []string) ([]store.DagScope, error) {
	var out []store.DagScope
	var problems []error
	for _, t := range texts {
		d, err := auth.ParseScope(t)
		problems = append(problems, err)
		out = append(out, d)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, usageError{err}
	}
	return out, nil
}

const scopeHelp = "role on the DAGs that match, as dag:PATTERN[=ROLE] or tag:PATTERN[=ROLE]; may be given several times; none: the role on all DAGs"

// passwordFlags say where a password comes from.
type passwordFlags struct {
	password string
	random   bool
}

func (f *passwordFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.password, "password", "p", "", "the password; others may see it in the list of processes: leave it out to be asked")
	cmd.Flags().BoolVar(&f.random, "use-random-password", false, "make one and print it")
}

// get returns the password; generated says that it has to be shown.
func (f *passwordFlags) get(c *command) (password string, generated bool, err error) {
	switch {
	case f.random && f.password != "":
		return "", false, usagef("--password and --use-random-password: give one of them")
	case f.random:
		return auth.NewPassword(), true, nil
	case f.password != "":
		return f.password, false, nil
	}
	password, err = c.askPassword()
	return password, false, err
}

// askPassword asks twice on a terminal, without showing what is typed; elsewhere it
// reads a line.
func (c *command) askPassword() (string, error) {
	if f, ok := c.env.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		var typed [2]string
		for i, prompt := range []string{"Password: ", "Again: "} {
			fmt.Fprint(c.env.Stderr, prompt)
			b, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(c.env.Stderr)
			if err != nil {
				return "", err
			}
			typed[i] = string(b)
		}
		if typed[0] != typed[1] {
			return "", usagef("the two passwords differ")
		}
		return typed[0], nil
	}
	line, err := bufio.NewReader(c.env.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", usagef("no password: give one on standard input, with --password, or --use-random-password")
	}
	return line, nil
}

func (c *command) usersCreate() *cobra.Command {
	var n auth.NewUser
	var role string
	var scopes []string
	var p passwordFlags
	cmd := leaf("create", "Create a user", "  gust users create -u jo -r User -e jo@example.com           asks for the password\n  gust users create -u ci -r Viewer --scope tag:team-a=User --use-random-password", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var err error
		if n.Role, err = roleFlag(role); err != nil {
			return err
		}
		if n.Scopes, err = scopeFlags(scopes); err != nil {
			return err
		}
		var generated bool
		if n.Password, generated, err = p.get(c); err != nil {
			return err
		}
		a, s, err := c.openAuth(ctx)
		if err != nil {
			return err
		}
		u, err := s.CreateUser(ctx, n)
		if err != nil {
			return err
		}
		c.audit(ctx, a, "cli_users_create", map[string]string{"username": u.Username, "role": u.Role})
		if generated {
			return c.rows([]row{append(userRow(u), pair{"password", n.Password})}, "username", "roles", "password")
		}
		c.say("User %q created with role %s", u.Username, u.Role)
		return nil
	})
	cmd.Flags().StringVarP(&n.Username, "username", "u", "", "the name to sign in with")
	cmd.Flags().StringVarP(&role, "role", "r", "", "Viewer, User, Op or Admin")
	cmd.Flags().StringVarP(&n.Email, "email", "e", "", "the user's e-mail address")
	cmd.Flags().StringVarP(&n.FirstName, "firstname", "f", "", "the user's first name")
	cmd.Flags().StringVarP(&n.LastName, "lastname", "l", "", "the user's last name")
	cmd.Flags().StringArrayVar(&scopes, "scope", nil, scopeHelp)
	p.bind(cmd)
	require(cmd, "username", "role")
	return cmd
}

// require marks flags that must be given.
func require(cmd *cobra.Command, names ...string) {
	for _, n := range names {
		if err := cmd.MarkFlagRequired(n); err != nil {
			panic(err) // a flag that does not exist
		}
	}
}

func (c *command) usersList() *cobra.Command {
	return leaf("list", "List users", "  gust users list -o json", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		_, s, err := c.openAuth(ctx)
		if err != nil {
			return err
		}
		us, err := s.Users(ctx)
		if err != nil {
			return err
		}
		var rs []row
		for _, u := range us {
			rs = append(rs, userRow(u))
		}
		return c.rows(rs)
	})
}

// theUser adds the flag that names a user.
func theUser(cmd *cobra.Command, name *string) *cobra.Command {
	cmd.Flags().StringVarP(name, "username", "u", "", "the user's name")
	require(cmd, "username")
	return cmd
}

// changeUser makes a command that changes one user.
func (c *command) changeUser(use, short, example, event, said string, change func(ctx context.Context, s *auth.Service, name string) (map[string]string, error)) *cobra.Command {
	var name string
	return theUser(leaf(use, short, example, cobra.NoArgs, func(ctx context.Context, _ []string) error {
		a, s, err := c.openAuth(ctx)
		if err != nil {
			return err
		}
		extra, err := change(ctx, s, name)
		if errors.Is(err, airflow.ErrNotFound) {
			return fmt.Errorf("user %q does not exist: `%s users list` shows who does", name, c.env.Name)
		}
		if err != nil {
			return err
		}
		if extra == nil {
			extra = map[string]string{}
		}
		extra["username"] = name
		c.audit(ctx, a, event, extra)
		c.say(said, name)
		return nil
	}), &name)
}

func (c *command) usersDelete() *cobra.Command {
	return c.changeUser("delete", "Delete a user, with sessions and API tokens", "  gust users delete -u jo", "cli_users_delete", "User %q deleted",
		func(ctx context.Context, s *auth.Service, name string) (map[string]string, error) {
			return nil, s.DeleteUser(ctx, name)
		})
}

func (c *command) usersResetPassword() *cobra.Command {
	var p passwordFlags
	cmd := c.changeUser("reset-password", "Give a user another password; sessions end", "  gust users reset-password -u jo", "cli_users_reset_password", "User %q has a new password",
		func(ctx context.Context, s *auth.Service, name string) (map[string]string, error) {
			password, generated, err := p.get(c)
			if err != nil {
				return nil, err
			}
			if err := s.SetPassword(ctx, name, password); err != nil {
				return nil, err
			}
			if generated {
				return nil, c.rows([]row{{{"username", name}, {"password", password}}})
			}
			return nil, nil
		})
	p.bind(cmd)
	return cmd
}

func (c *command) usersSetRole() *cobra.Command {
	var role string
	cmd := c.changeUser("set-role", "Give a user another role; it counts at once", "  gust users set-role -u jo -r Op", "cli_users_set_role", "User %q has the role",
		func(ctx context.Context, s *auth.Service, name string) (map[string]string, error) {
			r, err := roleFlag(role)
			if err != nil {
				return nil, err
			}
			return map[string]string{"role": string(r)}, s.SetRole(ctx, name, r)
		})
	cmd.Flags().StringVarP(&role, "role", "r", "", "Viewer, User, Op or Admin")
	require(cmd, "role")
	return cmd
}

func (c *command) usersSetScopes() *cobra.Command {
	var texts []string
	cmd := c.changeUser("set-scopes", "Say on which DAGs a user has which role", "  gust users set-scopes -u jo --scope 'dag:*=Viewer' --scope tag:team-a=User\n  gust users set-scopes -u jo                     the user's role on all DAGs again", "cli_users_set_scopes", "User %q has these scopes",
		func(ctx context.Context, s *auth.Service, name string) (map[string]string, error) {
			scopes, err := scopeFlags(texts)
			if err != nil {
				return nil, err
			}
			return map[string]string{"scopes": strings.Join(texts, " ")}, s.SetScopes(ctx, name, scopes)
		})
	cmd.Flags().StringArrayVar(&texts, "scope", nil, scopeHelp)
	return cmd
}

// usersSwitch makes disable and enable.
func (c *command) usersSwitch(disable bool) *cobra.Command {
	use, short, said := "enable", "Let a disabled user in again", "User %q may sign in"
	if disable {
		use, short, said = "disable", "Keep a user out; sessions and tokens end at once", "User %q may not sign in any more"
	}
	return c.changeUser(use, short, "  gust users "+use+" -u jo", "cli_users_"+use, said,
		func(ctx context.Context, s *auth.Service, name string) (map[string]string, error) {
			return nil, s.SetDisabled(ctx, name, disable)
		})
}

func tokenRow(t store.APIToken) row {
	return row{
		{"id", t.ID}, {"name", t.Name}, {"username", t.Owner}, {"role", t.Role}, {"dag_scopes", scopeTexts(t.Scopes)},
		{"created_at", t.CreatedAt}, {"expires_at", timeOrNil(t.ExpiresAt)}, {"last_used", timeOrNil(t.LastUsed)},
	}
}

func (c *command) tokensCreate() *cobra.Command {
	var n auth.NewAPIToken
	var role string
	var scopes []string
	var days int
	cmd := leaf("create", "Create an API token, which is shown this once", "  gust tokens create -u ci --name deploy --role User --scope tag:team-a --days 30", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var err error
		if role != "" {
			if n.Role, err = roleFlag(role); err != nil {
				return err
			}
		}
		if n.Scopes, err = scopeFlags(scopes); err != nil {
			return err
		}
		if days < 0 || days > 36500 {
			return usagef("--days %d: expected 1 to 36500, or 0 for a token that does not expire", days)
		}
		n.Life = time.Duration(days) * 24 * time.Hour
		a, s, err := c.openAuth(ctx)
		if err != nil {
			return err
		}
		token, t, err := s.CreateAPIToken(ctx, n)
		if err != nil {
			return missing(err, "user %q does not exist", n.Owner)
		}
		c.audit(ctx, a, "cli_tokens_create", map[string]string{"id": t.ID, "name": t.Name, "username": t.Owner, "role": t.Role})
		c.hint("keep it now: it is not shown again")
		return c.rows([]row{append(tokenRow(t), pair{"token", token})}, "id", "name", "username", "role", "expires_at", "token")
	})
	cmd.Flags().StringVarP(&n.Owner, "username", "u", "", "whose token it is; it never has more rights than its owner")
	cmd.Flags().StringVar(&n.Name, "name", "", "what it is for")
	cmd.Flags().StringVarP(&role, "role", "r", "", "at most the owner's (default the owner's)")
	cmd.Flags().StringArrayVar(&scopes, "scope", nil, scopeHelp)
	cmd.Flags().IntVar(&days, "days", 90, "days until it expires, 0 for never")
	require(cmd, "username", "name")
	return cmd
}

func (c *command) tokensList() *cobra.Command {
	var owner string
	cmd := leaf("list", "List API tokens, without their secrets", "  gust tokens list -u ci", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		_, s, err := c.openAuth(ctx)
		if err != nil {
			return err
		}
		ts, err := s.APITokens(ctx, owner)
		if err != nil {
			return err
		}
		var rs []row
		for _, t := range ts {
			rs = append(rs, tokenRow(t))
		}
		return c.rows(rs)
	})
	cmd.Flags().StringVarP(&owner, "username", "u", "", "only this user's")
	return cmd
}

func (c *command) tokensRevoke() *cobra.Command {
	return leaf("revoke ID", "Take an API token back at once", "  gust tokens revoke 4f0c2a9d1b7e6a35", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		a, s, err := c.openAuth(ctx)
		if err != nil {
			return err
		}
		if err := s.RevokeAPIToken(ctx, args[0]); err != nil {
			return missing(err, "API token %q does not exist: `%s tokens list` shows those that do", args[0], c.env.Name)
		}
		c.audit(ctx, a, "cli_tokens_revoke", map[string]string{"id": args[0]})
		c.say("API token %s revoked", args[0])
		return nil
	})
}

func (c *command) rotateKeys() *cobra.Command {
	var everyone bool
	cmd := leaf("rotate-keys", "Sign tokens with a new key; nobody is logged out", "  gust auth rotate-keys\n  gust auth rotate-keys --log-everyone-out      a key may have leaked", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		a, s, err := c.openAuth(ctx)
		if err != nil {
			return err
		}
		if everyone {
			kid, err := s.RevokeAllTokens(ctx)
			if err != nil {
				return err
			}
			c.audit(ctx, a, "cli_auth_rotate_keys", map[string]string{"kid": kid, "log_everyone_out": "true"})
			c.say("Key %s signs tokens. All sessions and tokens of /auth/token end within a minute; API tokens stay", kid)
			return nil
		}
		kid, n, err := s.RotateKeys(ctx)
		if err != nil {
			return err
		}
		c.audit(ctx, a, "cli_auth_rotate_keys", map[string]string{"kid": kid})
		c.say("Key %s signs tokens; %d keys verify them", kid, n)
		return nil
	})
	cmd.Flags().BoolVar(&everyone, "log-everyone-out", false, "remove the old keys at once")
	return cmd
}

// firstPassword needs no home and no AWS: the secret comes from standard input.
func (c *command) firstPassword() *cobra.Command {
	return leaf("first-password", "Print the password of a deployment's first admin", "  aws secretsmanager get-secret-value --secret-id gust-prod-keys --query SecretString --output text | gust auth first-password", cobra.NoArgs, func(context.Context, []string) error {
		b, err := readAll(c.env.Stdin)
		if err != nil {
			return err
		}
		password, err := auth.FirstPassword(string(b))
		if err != nil {
			return err
		}
		return c.rows([]row{{{"username", auth.FirstAdmin}, {"password", password}}})
	})
}
