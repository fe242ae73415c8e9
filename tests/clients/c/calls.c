/* The calls of the client matrix through hiredis: calls HOST PORT KEY */

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static redisContext *context;
static const char *host, *key;
static int port;

static int value(char *out, size_t room, const char *call, int number) {
    int length = snprintf(out, room, "%s-%d \xc3\xa9 \"q\" \\ \r\n", call, number);
    out[length] = '\0';
    out[length + 1] = '.';
    return length + 2;
}

static void report(const char *call, const char *error) {
    if (error) printf("%s error: %s\n", call, error);
    else printf("%s ok\n", call);
    fflush(stdout);
}

/* An integer 1, or what is wrong; the reply is freed. */
static const char *one(redisReply *reply) {
    static char wrong[256];
    const char *error = NULL;
    if (!reply) return context->errstr[0] ? context->errstr : "no reply";
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer != 1) {
        snprintf(wrong, sizeof wrong, "type %d: %s", reply->type, reply->str ? reply->str : "");
        error = wrong;
    }
    freeReplyObject(reply);
    return error;
}

static const char *push(const char *call, int number) {
    char text[128];
    int length = value(text, sizeof text, call, number);
    return one(redisCommand(context, "RPUSH %s %b", key, text, (size_t)length));
}

static void append(const char *call, int number) {
    char text[128];
    int length = value(text, sizeof text, call, number);
    redisAppendCommand(context, "RPUSH %s %b", key, text, (size_t)length);
}

static const char *health(void) {
    redisReply *reply = redisCommand(context, "PING");
    int good = reply && reply->type == REDIS_REPLY_STATUS && !strcmp(reply->str, "PONG");
    if (reply) freeReplyObject(reply);
    if (!good) return "no PONG";
    reply = redisCommand(context, "INFO");
    good = reply && reply->type == REDIS_REPLY_STRING && strstr(reply->str, "redis_version");
    if (reply) freeReplyObject(reply);
    return good ? NULL : "no redis_version";
}

static const char *pipeline(void) {
    for (int number = 0; number < 10; number++) append("pipeline", number);
    for (int number = 0; number < 10; number++) {
        redisReply *reply = NULL;
        redisGetReply(context, (void **)&reply);
        const char *error = one(reply);
        if (error) return error;
    }
    return NULL;
}

static const char *transaction(void) {
    redisReply *reply;
    redisAppendCommand(context, "MULTI");
    for (int number = 0; number < 5; number++) append("transaction", number);
    redisAppendCommand(context, "EXEC");
    for (int number = 0; number < 6; number++) {
        if (redisGetReply(context, (void **)&reply) != REDIS_OK) return context->errstr;
        if (reply->type != REDIS_REPLY_STATUS || strcmp(reply->str, number ? "QUEUED" : "OK")) return "not queued";
        freeReplyObject(reply);
    }
    if (redisGetReply(context, (void **)&reply) != REDIS_OK) return context->errstr;
    int good = reply->type == REDIS_REPLY_ARRAY && reply->elements == 5;
    freeReplyObject(reply);
    return good ? NULL : "not five replies";
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    host = arguments[1], port = atoi(arguments[2]), key = arguments[3];
    context = redisConnect(host, port);
    printf("version %d.%d.%d\n", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    report("ordinary", push("ordinary", 0));
    report("health", health());
    report("pipeline", pipeline());
    report("transaction", transaction());
    puts("restart");
    fflush(stdout);
    getchar();
    const char *error = "never tried";
    for (int tried = 0; tried < 60 && error; tried++) {
        if (tried) usleep(500000);
        /* hiredis leaves it to its user to connect anew. */
        if (context->err || tried) {
            redisFree(context);
            context = redisConnect(host, port);
            if (context->err) {
                error = context->errstr;
                continue;
            }
        }
        error = push("reconnect", 0);
    }
    report("reconnect", error);
    return 0;
}
