package filestore_test

import (
	"example.com/authtrip"
	"example.com/authtrip/filestore"
	"example.com/authtrip/internal/chaos"
)

// sources returns the sources of a process. They have the documented settings, but for
// times that are shorter.
func sources(task chaos.Task) func(key string) chaos.Source {
	refresher := authtrip.RefreshToken(task.Config())
	refresher.HTTPClient = task.HTTPClient()
	all := &authtrip.Sources{Each: authtrip.Source{
		Refresher: refresher, Store: &filestore.Store{Dir: task.Store},
		RefreshTimeout: task.RefreshTimeout, GracePeriod: task.GracePeriod,
	}}
	return func(key string) chaos.Source { return all.Source(key) }
}
