package postgres

import (
	"context"
	"errors"
)

func fromRegistry(ctx context.Context, o Options) (*Install, error) {
	return nil, errors.New("unsupported")
}
