package redisstore_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip/redisstore"
)

// Symptom: a Client that was closed before the watch had ended, as a deferred Close does, left
// the watch's goroutine in a loop that took a whole processor.
func TestWatchOfAClosedClientTakesNoProcessor(t *testing.T) {
	client := shared.client(redis.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed, err := (&redisstore.Store{Client: client}).Watch(ctx, "key")
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-time.After(5 * time.Second):
		t.Error("the watch goes on, though nothing can come any more")
	}
	before := processorTime(t)
	<-time.After(2 * time.Second)
	if used := processorTime(t) - before; used > 300*time.Millisecond {
		t.Errorf("the watch took %v of the processor in two seconds", used)
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
