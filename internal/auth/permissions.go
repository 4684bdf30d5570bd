package auth

import (
	"path"
	"strings"

	"github.com/gustflow/gust/internal/store"
)

// Action is what somebody wants to do with a Resource.
type Action string

// The actions; Airflow's methods GET, POST, PUT and PATCH, DELETE.
const (
	Read   Action = "read"
	Create Action = "create"
	Edit   Action = "edit"
	Delete Action = "delete"
)

// Resource is a kind of thing, under Airflow's name.
type Resource string

// Resources that belong to a DAG: scopes count.
const (
	ResourceDAG          Resource = "dag"
	ResourceDagRun       Resource = "dag_run"
	ResourceTaskInstance Resource = "task_instance"
	ResourceTask         Resource = "task"
	ResourceTaskLog      Resource = "task_log"
	ResourceXCom         Resource = "xcom"
	ResourceDagCode      Resource = "dag_code"
	ResourceDagVersion   Resource = "dag_version"
	ResourceDagWarning   Resource = "dag_warning"
	ResourceDagStats     Resource = "dag_stats"
	ResourceDependencies Resource = "dependencies"
	ResourceImportError  Resource = "import_error"
	ResourceBackfill     Resource = "backfill"
	ResourceHITL         Resource = "hitl"
)

// Resources of the whole installation: the role counts, whatever the scopes.
const (
	ResourceAsset      Resource = "asset"
	ResourceAssetAlias Resource = "asset_alias"
	ResourcePool       Resource = "pool"
	ResourceVariable   Resource = "variable"
	ResourceConnection Resource = "connection"
	ResourceConfig     Resource = "config"
	ResourceAuditLog   Resource = "audit_log"
	ResourceUser       Resource = "user"
	ResourceToken      Resource = "token" // other people's API tokens
	ResourceJob        Resource = "job"
	ResourcePlugin     Resource = "plugin"
	ResourceProvider   Resource = "provider"
	ResourceTrigger    Resource = "trigger"
	ResourceFavorite   Resource = "favorite" // one's own stars
	ResourceMenu       Resource = "menu"     // what frames every page
	ResourceActivity   Resource = "cluster_activity"
	ResourceCost       Resource = "cost"
	ResourceAlert      Resource = "alert"
)

// rights are the least roles for reading, creating, editing and deleting; "" is
// nobody but an Admin. They are those of Airflow's FAB auth manager; where that
// leaves the detail open (backfills, XComs that people write), those of its simple
// auth manager for the stricter of the two.
type rights struct {
	perDag                      bool
	read, create, edit, deleteR Role
}

var permissions = map[Resource]rights{
	ResourceDAG:          {true, Viewer, User, User, User},
	ResourceDagRun:       {true, Viewer, User, User, User},
	ResourceTaskInstance: {true, Viewer, User, User, User},
	ResourceTask:         {true, Viewer, "", "", ""},
	ResourceTaskLog:      {true, Viewer, "", "", ""},
	ResourceXCom:         {true, Viewer, Op, Op, Op},
	ResourceDagCode:      {true, Viewer, "", "", ""},
	ResourceDagVersion:   {true, Viewer, "", "", ""},
	ResourceDagWarning:   {true, Viewer, "", "", ""},
	ResourceDagStats:     {true, Viewer, "", "", ""},
	ResourceDependencies: {true, Viewer, "", "", ""},
	ResourceImportError:  {true, Viewer, "", "", ""},
	ResourceBackfill:     {true, Viewer, Op, Op, Op},
	ResourceHITL:         {true, Viewer, "", User, ""},

	ResourceAsset:      {false, Viewer, User, Op, Op},
	ResourceAssetAlias: {false, Viewer, "", "", ""},
	ResourcePool:       {false, Viewer, Op, Op, Op},
	ResourceVariable:   {false, Op, Op, Op, Op},
	ResourceConnection: {false, Op, Op, Op, Op},
	ResourceConfig:     {false, Op, "", "", ""},
	ResourceAuditLog:   {false, Admin, "", "", ""},
	ResourceUser:       {false, Admin, Admin, Admin, Admin},
	ResourceToken:      {false, Admin, Admin, Admin, Admin},
	ResourceJob:        {false, Viewer, "", "", ""},
	ResourcePlugin:     {false, Op, "", "", ""},
	ResourceProvider:   {false, Op, "", "", ""},
	ResourceTrigger:    {false, Admin, "", "", ""},
	ResourceFavorite:   {false, Viewer, Viewer, Viewer, Viewer},
	ResourceMenu:       {false, Viewer, "", "", ""},
	ResourceActivity:   {false, Viewer, "", "", ""},
	ResourceCost:       {false, Viewer, "", "", ""},
	ResourceAlert:      {false, Viewer, Op, Op, Op},
}

// least returns the least role for an action; false where only an Admin may.
func (r rights) least(a Action) (Role, bool) {
	role := map[Action]Role{Read: r.read, Create: r.create, Edit: r.edit, Delete: r.deleteR}[a]
	return role, role != ""
}

// scope is a store.DagScope, checked.
type scope struct {
	dagID, tag string
	role       Role
}

// matches reports whether the scope speaks of a DAG.
func (s scope) matches(dagID string, tags []string) bool {
	if s.dagID != "" && !globMatch(s.dagID, dagID) {
		return false
	}
	if s.tag == "" {
		return true
	}
	for _, t := range tags {
		if globMatch(s.tag, t) {
			return true
		}
	}
	return false
}

// globMatch matches * and ? literally otherwise: an id has no folders, and what
// path.Match would read as a class or an escape is an ordinary character here.
func globMatch(pattern, s string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return pattern == s
	}
	quoted := strings.NewReplacer(`\`, `\\`, `[`, `\[`, `/`, "\x00").Replace(pattern)
	ok, err := path.Match(quoted, strings.ReplaceAll(s, "/", "\x00"))
	return err == nil && ok
}

// scopesOf reads stored scopes; one with an unknown role gives nothing.
func scopesOf(in []store.DagScope, role Role) []scope {
	out := make([]scope, 0, len(in))
	for _, d := range in {
		r := role
		if d.Role != "" {
			r = Role(d.Role)
		}
		out = append(out, scope{d.DagID, d.Tag, r})
	}
	return out
}

// dagRole is the role on one DAG, "" for none. With dagID "" it is the highest role
// on any DAG.
func dagRole(role Role, scopes []scope, dagID string, tags []string) Role {
	if len(scopes) == 0 {
		return role
	}
	best := Role("")
	for _, s := range scopes {
		if (dagID == "" || s.matches(dagID, tags)) && s.role.rank() > best.rank() {
			best = s.role
		}
	}
	return best
}

// May reports whether the identity may do something. dagID and tags name the DAG
// that the resource belongs to. For a resource of DAGs, dagID "" asks whether it
// may on any DAG at all: a list then has to ask again for every DAG it shows
// (Unlimited says when it need not). For other resources the DAG does not count.
func (id Identity) May(a Action, r Resource, dagID string, tags []string) bool {
	if !mayWith(id.Role, id.scopes, a, r, dagID, tags) {
		return false
	}
	return id.ceiling == nil || mayWith(id.ceiling.role, id.ceiling.scopes, a, r, dagID, tags)
}

func mayWith(role Role, scopes []scope, a Action, r Resource, dagID string, tags []string) bool {
	p, known := permissions[r]
	if known && p.perDag {
		role = dagRole(role, scopes, dagID, tags)
	}
	if role == Admin {
		return true
	}
	if !known {
		return false
	}
	least, open := p.least(a)
	return open && role.Includes(least)
}

// Unlimited reports whether the identity sees every DAG: a list need not ask May
// for each.
func (id Identity) Unlimited() bool {
	return len(id.scopes) == 0 && (id.ceiling == nil || len(id.ceiling.scopes) == 0)
}
