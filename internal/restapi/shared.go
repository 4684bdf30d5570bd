package restapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// jsonRaw is an answer of JSON where others of the operation are not.
func jsonRaw(v any) (Raw, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return Raw{ContentType: "application/json", Body: bytes.TrimSuffix(b.Bytes(), []byte("\n"))}, err
}

// readableDags reads all DAGs that who asks may see with this operation.
func (r *Request) readableDags(ctx context.Context) (out []airflow.DagModel, err error) {
	cursor := ""
	for {
		ms, next, err := r.API.Store.ListDags(ctx, store.ListOptions{Limit: 1000, Cursor: cursor})
		if err != nil {
			return nil, err
		}
		for _, m := range ms {
			if r.May(m) {
				out = append(out, m)
			}
		}
		if cursor = next; next == "" {
			return out, nil
		}
	}
}

// models remembers DAGs and versions for the rows of one answer.
type models struct {
	r        *Request
	dags     map[airflow.DagID]airflow.DagModel
	versions map[versionKey]*DagVersionResponse
}

type versionKey struct {
	dag    airflow.DagID
	number int
}

func (r *Request) models() *models {
	return &models{r: r, dags: map[airflow.DagID]airflow.DagModel{}, versions: map[versionKey]*DagVersionResponse{}}
}

// dag returns a DAG; of one that was deleted only its id is known.
func (ms *models) dag(id airflow.DagID) (airflow.DagModel, error) {
	if m, ok := ms.dags[id]; ok {
		return m, nil
	}
	m, err := ms.r.API.Store.GetDag(ms.r.Context(), id)
	if errors.Is(err, airflow.ErrNotFound) {
		m, err = airflow.DagModel{DagID: id}, nil
	}
	if err == nil {
		ms.dags[id] = m
	}
	return m, err
}

// version returns a version of a DAG, nil if it is not known any more.
func (ms *models) version(id airflow.DagID, n int) (*DagVersionResponse, error) {
	k := versionKey{id, n}
	if v, ok := ms.versions[k]; ok {
		return v, nil
	}
	m, err := ms.dag(id)
	if err != nil {
		return nil, err
	}
	v, err := ms.r.API.Store.GetDagVersion(ms.r.Context(), id, n)
	if errors.Is(err, airflow.ErrNotFound) {
		ms.versions[k] = nil
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := ms.r.API.versionResponse(v, displayName(m))
	ms.versions[k] = &out
	return &out, nil
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// bindInto fills a struct from an object of a body.
func bindInto[T any](dst *T, raw json.RawMessage, loc []any, ps *problems) bool {
	return bindObject(reflect.ValueOf(dst).Elem(), raw, loc, ps)
}
