package authtrip

import (
	"context"
	"log/slog"
	"time"
)

// An Event is something that operators want to know of. It holds no token and
// no user.
type Event struct {
	// Kind says what happened.
	Kind EventKind
	// Duration is how long it took, 0 where nothing was waited for.
	Duration time.Duration
	// Requests is how many token requests it took.
	Requests int
	// Age is how old the user info is that was handed out.
	Age time.Duration
	// StatusCode and Code are the answer's, where there was one that failed.
	StatusCode int
	Code       string
	// Err is why, where something failed. Its text is safe to log.
	Err error
}

// EventKind names what an [Event] is about.
type EventKind string

// The kinds of [Event].
const (
	// EventTokenObtained: there is a token where there was none: from a grant, a
	// login, or the Store.
	EventTokenObtained EventKind = "token_obtained"
	// EventTokenRefreshed: a token was replaced by a refresh, and stored.
	EventTokenRefreshed EventKind = "token_refreshed"
	// EventTokenAdopted: somebody else's newer token was found in the Store.
	EventTokenAdopted EventKind = "token_adopted"
	// EventSessionExpiring: a token was refreshed, and the server said that the refresh
	// token expires within a day: a login will be needed by then.
	EventSessionExpiring EventKind = "session_expiring"
	// EventTokenRefused: an API answered 401 to the token.
	EventTokenRefused EventKind = "token_refused"
	// EventRefreshFailed: a refresh failed, and is tried again later.
	EventRefreshFailed EventKind = "refresh_failed"
	// EventRefreshInDoubt: a refresh token was sent and no usable answer came.
	EventRefreshInDoubt EventKind = "refresh_in_doubt"
	// EventReauthRequired: the user has to log in again.
	EventReauthRequired EventKind = "reauth_required"
	// EventTokenNotSaved: a new token came and the Store did not take it.
	EventTokenNotSaved EventKind = "token_not_saved"
	// EventRequestReplayed: a refused request was sent again with another token.
	EventRequestReplayed EventKind = "request_replayed"
	// EventRequestRefused: a refused request was not sent again; Err says why.
	EventRequestRefused EventKind = "request_refused"
	// EventUserInfoHit: user info came from memory or the Cache.
	EventUserInfoHit EventKind = "userinfo_hit"
	// EventUserInfoMiss: user info was fetched.
	EventUserInfoMiss EventKind = "userinfo_miss"
	// EventUserInfoStale: the last good copy was handed out, as a fetch had failed.
	EventUserInfoStale EventKind = "userinfo_stale"
	// EventUserInfoFailed: a fetch failed, or a Cache did.
	EventUserInfoFailed EventKind = "userinfo_failed"
)

// Events returns an OnEvent hook that calls all hooks, in their order. A nil one is
// ignored.
func Events(hooks ...func(Event)) func(Event) {
	return func(e Event) {
		for _, hook := range hooks {
			if hook != nil {
				hook(e)
			}
		}
	}
}

// LogEvents returns an OnEvent hook that writes to l: what worked at level Debug,
// what was made up for at Info, what failed at Warn, and what ends a login or can
// lose a token at Error. If l is nil, it is [slog.Default].
func LogEvents(l *slog.Logger) func(Event) {
	return func(e Event) {
		to := l
		if to == nil {
			to = slog.Default()
		}
		attrs := []slog.Attr{slog.String("event", string(e.Kind))}
		if e.Duration > 0 {
			attrs = append(attrs, slog.Duration("duration", e.Duration))
		}
		if e.Requests > 0 {
			attrs = append(attrs, slog.Int("requests", e.Requests))
		}
		if e.Age > 0 {
			attrs = append(attrs, slog.Duration("age", e.Age))
		}
		if e.StatusCode != 0 {
			attrs = append(attrs, slog.Int("status", e.StatusCode))
		}
		if e.Code != "" {
			attrs = append(attrs, slog.String("code", e.Code))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error", e.Err.Error()))
		}
		to.LogAttrs(context.Background(), e.level(), "authtrip", attrs...)
	}
}

func (e Event) level() slog.Level {
	switch e.Kind {
	case EventReauthRequired, EventTokenNotSaved:
		return slog.LevelError
	case EventRefreshFailed, EventRefreshInDoubt, EventRequestRefused, EventUserInfoFailed:
		return slog.LevelWarn
	case EventSessionExpiring, EventTokenRefused, EventRequestReplayed, EventTokenAdopted, EventUserInfoStale:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
