package restapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
)

// DagVersionResponse is a version of a DAG.
type DagVersionResponse struct {
	ID             string  `json:"id"`
	VersionNumber  int     `json:"version_number"`
	DagID          string  `json:"dag_id"`
	BundleName     *string `json:"bundle_name"`
	BundleVersion  *string `json:"bundle_version"`
	CreatedAt      Time    `json:"created_at"`
	DagDisplayName string  `json:"dag_display_name"`
	BundleURL      *string `json:"bundle_url"`
}

// DAGVersionCollectionResponse is a list of versions.
type DAGVersionCollectionResponse struct {
	DagVersions []DagVersionResponse `json:"dag_versions"`
	Total       int                  `json:"total_entries"`
}

// DAGSourceResponse is the text of a DAG file.
type DAGSourceResponse struct {
	Content        *string `json:"content"`
	DagID          string  `json:"dag_id"`
	VersionNumber  *int    `json:"version_number"`
	DagDisplayName string  `json:"dag_display_name"`
}

// DAGWarningResponse is a warning about a DAG.
type DAGWarningResponse struct {
	DagID          string `json:"dag_id"`
	WarningType    string `json:"warning_type"`
	Message        string `json:"message"`
	Timestamp      Time   `json:"timestamp"`
	DagDisplayName string `json:"dag_display_name"`
}

// DAGWarningCollectionResponse is a list of warnings.
type DAGWarningCollectionResponse struct {
	DagWarnings []DAGWarningResponse `json:"dag_warnings"`
	Total       int                  `json:"total_entries"`
}

type listVersions struct {
	Paging
	Ordering
	DagID         string  `path:"dag_id"`
	VersionNumber *int    `query:"version_number"`
	BundleName    *string `query:"bundle_name"`
	BundleVersion *string `query:"bundle_version"`
}

type versionPath struct {
	DagID         string `path:"dag_id"`
	VersionNumber int    `path:"version_number"`
}

type sourceQuery struct {
	DagID         string `path:"dag_id"`
	VersionNumber *int   `query:"version_number"`
	Accept        string `header:"accept"`
}

type listWarnings struct {
	Paging
	Ordering
	DagID       *string `query:"dag_id"`
	WarningType *string `query:"warning_type" enum:"asset conflict,non-existent pool,runtime varying value"`
}

func registerVersions(a *API) {
	Handle(a, Op{Method: "GET", Path: Base + "/dags/{dag_id}/dagVersions", ID: "get_dag_versions", Tag: "DagVersion", Summary: "Get Dag Versions", Action: auth.Read, Resource: auth.ResourceDagVersion}, getVersions)
	Handle(a, Op{Method: "GET", Path: Base + "/dags/{dag_id}/dagVersions/{version_number}", ID: "get_dag_version", Tag: "DagVersion", Summary: "Get Dag Version", Action: auth.Read, Resource: auth.ResourceDagVersion},
		func(r *Request, in *versionPath) (DagVersionResponse, error) {
			m, err := r.mustDag()
			if err != nil {
				return DagVersionResponse{}, err
			}
			v, err := r.API.Store.GetDagVersion(r.Context(), m.DagID, in.VersionNumber)
			if errors.Is(err, airflow.ErrNotFound) {
				return DagVersionResponse{}, NotFound("The DagVersion with dag_id: `%s` and version_number: `%d` was not found", m.DagID, in.VersionNumber)
			}
			return r.API.versionResponse(v, displayName(m)), err
		})
	Handle(a, Op{Method: "GET", Path: Base + "/dagSources/{dag_id}", ID: "get_dag_source", Tag: "DagSource", Summary: "Get Dag Source", Action: auth.Read, Resource: auth.ResourceDagCode,
		Answers: []any{DAGSourceResponse{}}, ContentTypes: []string{"text/plain"}}, getSource)
	Handle(a, Op{Method: "GET", Path: Base + "/dagWarnings", ID: "list_dag_warnings", Tag: "DagWarning", Summary: "List Dag Warnings", Action: auth.Read, Resource: auth.ResourceDagWarning}, getWarnings)
}

// uuidOf is an id that follows from what it names, in the form of a UUID.
func uuidOf(parts ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%q", parts)))
	var u uuid.UUID
	copy(u[:], sum[:])
	u[6] = u[6]&0x0f | 0x80 // version 8: made by a rule of our own
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

func (a *API) versionResponse(v airflow.DagVersion, display string) DagVersionResponse {
	return DagVersionResponse{
		ID: uuidOf("dag_version", v.DagID, v.Number), VersionNumber: v.Number, DagID: string(v.DagID), BundleName: &a.BundleName,
		CreatedAt: At(v.CreatedAt), DagDisplayName: display,
	}
}

func getVersions(r *Request, in *listVersions) (DAGVersionCollectionResponse, error) {
	out := DAGVersionCollectionResponse{DagVersions: []DagVersionResponse{}}
	read := func(ctx context.Context) ([]DagVersionResponse, error) {
		if in.DagID == "~" {
			return r.allVersions(ctx)
		}
		m, err := r.mustDag()
		if err != nil {
			return nil, err
		}
		return r.versionsOf(ctx, m)
	}
	num := func(v DagVersionResponse) SortKey { return ByInt(int64(v.VersionNumber)) }
	p, err := List(r, in.query(in.Ordering), Orders[DagVersionResponse]{By: map[string]func(DagVersionResponse) SortKey{
		"id":             func(v DagVersionResponse) SortKey { return ByInt(v.CreatedAt.UnixMicro()) }, // Airflow's ids are in order of creation
		"version_number": num,
		"bundle_name":    func(v DagVersionResponse) SortKey { return ByTextPtr(v.BundleName) },
		"bundle_version": func(v DagVersionResponse) SortKey { return ByTextPtr(v.BundleVersion) },
	}, Default: []string{"id"}, ID: func(v DagVersionResponse) SortKey { return SortKey{I: int64(v.VersionNumber), S: v.DagID} }},
		All(read), func(v DagVersionResponse) bool {
			return (in.VersionNumber == nil || v.VersionNumber == *in.VersionNumber) && (in.BundleName == nil || r.API.BundleName == *in.BundleName) && in.BundleVersion == nil
		})
	if err != nil {
		return out, err
	}
	return DAGVersionCollectionResponse{p.Items, p.Total}, nil
}

func (r *Request) versionsOf(ctx context.Context, m airflow.DagModel) ([]DagVersionResponse, error) {
	vs, err := r.API.Store.ListDagVersions(ctx, m.DagID)
	out := make([]DagVersionResponse, len(vs))
	for i, v := range vs {
		out[i] = r.API.versionResponse(v, displayName(m))
	}
	return out, err
}

func (r *Request) allVersions(ctx context.Context) (out []DagVersionResponse, err error) {
	ms, err := r.readableDags(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range ms {
		vs, err := r.versionsOf(ctx, m)
		if err != nil {
			return nil, err
		}
		if out = append(out, vs...); len(out) >= r.API.ReadLimit {
			break
		}
	}
	return out, nil
}

// accepts chooses what a client takes: the first of the offered types that Accept
// allows, "" if none.
func accepts(header string, offered ...string) string {
	if strings.TrimSpace(header) == "" {
		return offered[0]
	}
	for _, part := range strings.Split(header, ",") {
		t, _, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		if t == "*/*" {
			return offered[0]
		}
		for _, o := range offered {
			major, _, _ := strings.Cut(o, "/")
			if t == o || t == major+"/*" {
				return o
			}
		}
	}
	return ""
}

func getSource(r *Request, in *sourceQuery) (Raw, error) {
	as := accepts(in.Accept, "application/json", "text/plain")
	if as == "" {
		return Raw{}, Errorf(http.StatusNotAcceptable, "Only application/json or text/plain is supported")
	}
	m, err := r.mustDag()
	if err != nil {
		return Raw{}, err
	}
	number := m.LatestVersion
	if in.VersionNumber != nil {
		number = *in.VersionNumber
	}
	v, err := r.API.Store.GetDagVersion(r.Context(), m.DagID, number)
	missing := NotFound("The source code of the Dag %s, version_number %d was not found", m.DagID, number)
	if errors.Is(err, airflow.ErrNotFound) || err == nil && r.API.Bundles == nil {
		return Raw{}, missing
	}
	if err != nil {
		return Raw{}, err
	}
	b, err := r.API.Bundles.ReadFile(r.Context(), v.BundleHash, m.RelativeFileloc)
	if errors.Is(err, airflow.ErrNotFound) {
		return Raw{}, missing
	}
	if err != nil {
		return Raw{}, err
	}
	text := strings.ToValidUTF8(string(b), "\uFFFD")
	if as == "text/plain" {
		return Raw{ContentType: "text/plain; charset=utf-8", Body: []byte(text)}, nil
	}
	return jsonRaw(DAGSourceResponse{Content: &text, DagID: string(m.DagID), VersionNumber: &number, DagDisplayName: displayName(m)})
}

// warningsOf are the warnings about a DAG: what its document says and pools that
// its tasks name and that do not exist.
func getWarnings(r *Request, in *listWarnings) (DAGWarningCollectionResponse, error) {
	read := func(ctx context.Context) ([]DAGWarningResponse, error) {
		var ms []airflow.DagModel
		if in.DagID != nil {
			m, err := r.API.Store.GetDag(ctx, airflow.DagID(*in.DagID))
			if errors.Is(err, airflow.ErrNotFound) || err == nil && !r.May(m) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			ms = []airflow.DagModel{m}
		} else {
			var err error
			if ms, err = r.readableDags(ctx); err != nil {
				return nil, err
			}
		}
		pools, err := r.API.Store.ListPools(ctx)
		if err != nil {
			return nil, err
		}
		known := map[string]bool{}
		for _, p := range pools {
			known[p.Name] = true
		}
		var out []DAGWarningResponse
		for _, m := range ms {
			d := r.API.viewDag(ctx, m)
			if d.Graph == nil {
				continue
			}
			at := r.API.now()
			if m.LastParsedTime != nil {
				at = *m.LastParsedTime
			}
			missing := map[string]bool{}
			for _, t := range d.Graph.DAG.Tasks {
				if !known[t.Pool] && !missing[t.Pool] {
					missing[t.Pool] = true
					out = append(out, DAGWarningResponse{string(m.DagID), "non-existent pool", fmt.Sprintf("Dag '%s' references non-existent pools: ['%s']", m.DagID, t.Pool), At(at), displayName(m)})
				}
			}
			for _, w := range d.Graph.DAG.Gust.Warnings {
				out = append(out, DAGWarningResponse{string(m.DagID), "runtime varying value", w, At(at), displayName(m)})
			}
		}
		return out, nil
	}
	p, err := List(r, in.query(in.Ordering), Orders[DAGWarningResponse]{By: map[string]func(DAGWarningResponse) SortKey{
		"dag_id":       func(w DAGWarningResponse) SortKey { return ByText(w.DagID) },
		"warning_type": func(w DAGWarningResponse) SortKey { return ByText(w.WarningType) },
		"message":      func(w DAGWarningResponse) SortKey { return ByText(w.Message) },
		"timestamp":    func(w DAGWarningResponse) SortKey { return ByInt(w.Timestamp.UnixMicro()) },
	}, Default: []string{"dag_id"}, ID: func(w DAGWarningResponse) SortKey {
		return ByText(w.DagID + "\x00" + w.WarningType + "\x00" + w.Message)
	}},
		All(read), func(w DAGWarningResponse) bool { return in.WarningType == nil || w.WarningType == *in.WarningType })
	return DAGWarningCollectionResponse{p.Items, p.Total}, err
}
