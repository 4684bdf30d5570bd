package restapi

import (
	"context"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/store"
)

// ImportErrorResponse says why a DAG file could not be read.
type ImportErrorResponse struct {
	ImportErrorID int64   `json:"import_error_id"`
	Timestamp     Time    `json:"timestamp"`
	Filename      string  `json:"filename"`
	BundleName    *string `json:"bundle_name"`
	StackTrace    string  `json:"stack_trace"`
}

// ImportErrorCollectionResponse is a list of import errors.
type ImportErrorCollectionResponse struct {
	ImportErrors []ImportErrorResponse `json:"import_errors"`
	Total        int                   `json:"total_entries"`
	TotalLimit   *int                  `json:"total_entries_limit,omitempty"`
	Next         *string               `json:"next_cursor,omitempty"`
}

type listImportErrors struct {
	CursorPaging
	Ordering
	Filename       *string `query:"filename"`
	FilenameLike   *string `query:"filename_pattern"`
	FilenamePrefix *string `query:"filename_prefix_pattern"`
	BundleName     *string `query:"bundle_name"`
}

type importErrorPath struct {
	ID int64 `path:"import_error_id"`
}

func registerImportErrors(a *API) {
	op := Op{Method: "GET", Path: Base + "/importErrors", ID: "get_import_errors", Tag: "Import Error", Summary: "Get Import Errors", Action: auth.Read, Resource: auth.ResourceImportError, Indexed: []string{"filename", "filename_prefix_pattern", "order_by=filename"}}
	Handle(a, op, getImportErrors)
	op.Path, op.ID, op.Summary, op.Indexed = Base+"/importErrors/{import_error_id}", "get_import_error", "Get Import Error", nil
	Handle(a, op, func(r *Request, in *importErrorPath) (ImportErrorResponse, error) {
		may, err := r.mayFile()
		if err != nil {
			return ImportErrorResponse{}, err
		}
		for cursor := ""; ; {
			es, next, err := r.API.Store.ListImportErrorsPage(r.Context(), "", store.ListOptions{Limit: 1000, Cursor: cursor})
			if err != nil {
				return ImportErrorResponse{}, err
			}
			for _, e := range es {
				if numberOf(e.Filename) == in.ID && may(e) {
					return r.importError(e), nil
				}
			}
			if cursor = next; next == "" {
				return ImportErrorResponse{}, NotFound("The ImportError with import_error_id: `%d` was not found", in.ID)
			}
		}
	})
}

// mayFile says whose errors may be seen: those of files all of whose DAGs are
// permitted. A file of which no DAG is known is for those whose permissions do
// not depend on the DAG.
func (r *Request) mayFile() (func(airflow.ImportError) bool, error) {
	if r.Who.Unlimited() {
		return func(airflow.ImportError) bool { return true }, nil
	}
	ms, err := r.readableDags(r.Context())
	if err != nil {
		return nil, err
	}
	mine := map[airflow.DagID]bool{}
	for _, m := range ms {
		mine[m.DagID] = true
	}
	return func(e airflow.ImportError) bool {
		for _, id := range e.DagIDs {
			if !mine[id] {
				return false
			}
		}
		return len(e.DagIDs) > 0
	}, nil
}

func (r *Request) importError(e airflow.ImportError) ImportErrorResponse {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return ImportErrorResponse{ImportErrorID: numberOf(e.Filename), Timestamp: At(e.Timestamp), Filename: e.Filename, BundleName: &r.API.BundleName, StackTrace: strings.Join(lines, "\n")}
}

func getImportErrors(r *Request, in *listImportErrors) (ImportErrorCollectionResponse, error) {
	out := ImportErrorCollectionResponse{ImportErrors: []ImportErrorResponse{}}
	may, err := r.mayFile()
	if err != nil {
		return out, err
	}
	id := func(e airflow.ImportError) SortKey { return ByInt(numberOf(e.Filename)) }
	trace := func(e airflow.ImportError) SortKey { return ByText(r.importError(e).StackTrace) }
	o := Orders[airflow.ImportError]{By: map[string]func(airflow.ImportError) SortKey{
		"id": id, "import_error_id": id, "timestamp": func(e airflow.ImportError) SortKey { return ByTime(&e.Timestamp) },
		"filename":    func(e airflow.ImportError) SortKey { return ByText(e.Filename) },
		"bundle_name": func(airflow.ImportError) SortKey { return ByText(r.API.BundleName) }, "stacktrace": trace,
	}, Default: []string{"id"}, ID: id}
	match, prefix := Pattern(in.FilenameLike), Prefix(in.FilenamePrefix)
	begin := onePrefix(in.FilenamePrefix)
	if in.Filename != nil && begin == "" {
		begin = *in.Filename
	}
	read := func(ctx context.Context, cursor string, limit int) ([]airflow.ImportError, string, error) {
		return r.API.Store.ListImportErrorsPage(ctx, begin, store.ListOptions{Limit: limit, Cursor: cursor})
	}
	p, err := List(r, in.query(in.Ordering), o, read, func(e airflow.ImportError) bool {
		return match(e.Filename) && prefix(e.Filename) && (in.Filename == nil || *in.Filename == e.Filename) &&
			(in.BundleName == nil || *in.BundleName == r.API.BundleName) && may(e)
	})
	out.Total, out.TotalLimit, out.Next = p.Total, p.TotalLimit, p.Next
	for _, e := range p.Items {
		out.ImportErrors = append(out.ImportErrors, r.importError(e))
	}
	return out, err
}
