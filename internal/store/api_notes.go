package store

import (
	"context"
	"errors"
	"strconv"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// Notes of task instances lie in their run's partition, so that one query reads
// all of a run's and deleting the run removes them.
const skNote = "NOTE"

type noteDoc struct {
	Note string `json:"note"`
	User string `json:"user,omitempty"`
}

func noteKey(k airflow.TaskInstanceKey) kv.Key {
	return kv.Key{PK: runPK(RunKey{k.DagID, k.RunID}), SK: joinKey(skNote, string(k.TaskID), strconv.Itoa(k.MapIndex))}
}

// PutTaskNote sets the note of a task instance; "" removes it.
func (s *Store) PutTaskNote(ctx context.Context, k airflow.TaskInstanceKey, note, user string) error {
	if note == "" {
		return translate(s.kv.Write(ctx, kv.Delete(noteKey(k), kv.Cond{})))
	}
	return s.putDoc(ctx, noteKey(k), noteDoc{note, user}, nil)
}

// TaskNotes returns the notes of a run's task instances. It reads the notes only.
func (s *Store) TaskNotes(ctx context.Context, run RunKey) (map[airflow.TaskInstanceKey]string, error) {
	out := map[airflow.TaskInstanceKey]string{}
	_, err := listPartition(ctx, s, runPK(run), kv.Prefix(skNote+"#"), func(it kv.Item) (struct{}, error) {
		var d noteDoc
		if err := decode(it, &d); err != nil {
			return struct{}{}, err
		}
		p := splitKey(it.SK)
		if n, err := strconv.Atoi(p[len(p)-1]); err == nil && len(p) == 3 {
			out[airflow.TaskInstanceKey{DagID: run.DagID, RunID: run.RunID, TaskID: airflow.TaskID(p[1]), MapIndex: n}] = d.Note
		}
		return struct{}{}, nil
	})
	return out, err
}

// Favourites of a user are one partition: DAGs by id.
const kindFavorite = "FAVORITE"

func favoriteKey(user string, dag airflow.DagID) kv.Key {
	return kv.Key{PK: joinKey(kindFavorite, user), SK: string(dag)}
}

// AddFavorite stars a DAG for a user; ErrAlreadyExists if it is starred.
func (s *Store) AddFavorite(ctx context.Context, user string, dag airflow.DagID) error {
	return s.createDoc(ctx, favoriteKey(user, dag), struct{}{}, nil)
}

// RemoveFavorite takes a user's star off a DAG; ErrNotFound if there is none.
func (s *Store) RemoveFavorite(ctx context.Context, user string, dag airflow.DagID) error {
	return s.deleteDoc(ctx, favoriteKey(user, dag))
}

// Favorites returns the DAGs that a user has starred.
func (s *Store) Favorites(ctx context.Context, user string) (map[airflow.DagID]bool, error) {
	out := map[airflow.DagID]bool{}
	_, err := listPartition(ctx, s, joinKey(kindFavorite, user), kv.Range{}, func(it kv.Item) (struct{}, error) {
		out[airflow.DagID(it.SK)] = true
		return struct{}{}, nil
	})
	return out, err
}

// IsFavorite reports whether a user has starred a DAG.
func (s *Store) IsFavorite(ctx context.Context, user string, dag airflow.DagID) (bool, error) {
	_, err := s.kv.Get(ctx, favoriteKey(user, dag), false)
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, translate(err)
}
