package redisstore_test

import (
	"strings"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip"
	"example.com/authtrip/internal/chaos"
	"example.com/authtrip/redisstore"
)

// sources returns the sources of a process. They have the documented settings, but for
// times that are shorter.
func sources(task chaos.Task) func(key string) chaos.Source {
	prefix, addr, _ := strings.Cut(task.Store, " ")
	client := (&server{addr: addr}).client(redis.Options{})
	refresher := authtrip.RefreshToken(task.Config())
	refresher.HTTPClient = task.HTTPClient()
	all := &authtrip.Sources{Each: authtrip.Source{
		Refresher: refresher, Store: &redisstore.Store{Client: client, Prefix: prefix},
		RefreshTimeout: task.RefreshTimeout, GracePeriod: task.GracePeriod,
	}}
	return func(key string) chaos.Source { return all.Source(key) }
}
