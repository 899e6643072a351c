//! The bots that are known: crawlers, feed readers, monitors and HTTP libraries, by what their `User-Agent` has in it.
//!
//! They are those of Kong (`kong/plugins/bot-detection/rules.lua`), which has them from the project `uap-core`. An agent is a bot or is none here: what
//! rules find out beside that, such as versions, is left away, and so is whatever another rule finds anyway.

use std::sync::LazyLock;

use regex::bytes::{RegexSet, RegexSetBuilder};

/// What agents of bots match.
pub(crate) fn known() -> &'static RegexSet {
    &KNOWN
}

/// Made with the first configuration, for all of them.
static KNOWN: LazyLock<RegexSet> = LazyLock::new(|| {
    let any_of = |names: &[&str]| format!("(?:{})", names.join("|"));
    let rules = [
        any_of(&NAMES),
        any_of(&LIBRARIES),
        format!(r"\b{}/\d", any_of(&BEFORE_A_VERSION)),
    ];
    RegexSetBuilder::new(RULES.into_iter().chain(rules.iter().map(String::as_str)))
        .unicode(false)
        .build()
        .expect("constants, which a test compiles")
});

/// What makes a bot beside a name.
const RULES: [&str; 10] = [
    // What it says it does.
    "(?i:crawl|spider)",
    "[Ss]crape",
    r"(?:Archiver|[Bb]ot|[Ii]ndexer)[/ ]\d",
    // A part of the agent behind a slash.
    r"/(?:[A-z]+[Bb]ot|Axtaris|fetchurl|Isara|ShopSalad|Tailsweep)[ -]\d",
    // Clients of Amazon's storage.
    r"\b(?:aws-cli|aws-sdk-(?:cpp|dotnet-(?:core|\d{1,2})|go|java|nodejs|ruby2?)|Boto3?|JetS3t|s3fs)/\d+\.\d",
    // Browsers with an addition.
    r"MSIE \d+\.\d+(?:[a-z]\d?)?;.* MSIECrawler",
    r" PTST/\d+\.?\d+$",
    // Monitors and previews.
    r"Pingdom\.com_bot_version_\d+\.\d",
    r"facebookexternalhit/\d+\.\d",
    r"Google.*/\+/web/snippet",
];

/// Names that make a bot when a version follows.
const BEFORE_A_VERSION: [&str; 23] = [
    "008",
    "Altresium",
    "Argus",
    "BaiduMobaider",
    "BoardReader",
    "DataparkSearch",
    "DNSGroup",
    "EDI",
    "envolk",
    "Goodzer",
    "Grub",
    "Infohelfer",
    "INGRID",
    "LOOQ",
    "PathDefender",
    "Peew",
    "PostPost",
    "sproose",
    "Steeler",
    "VSE",
    "Web(?:Crunch|ZIP)",
    "wminer",
    "Y!J-BR[A-Z]",
];

/// HTTP libraries, wherever they stand.
const LIBRARIES: [&str; 15] = [
    "aihttp",
    "Apache-HttpClient",
    "axios",
    "Go-http-client",
    "Google-HTTP-Java-Client",
    "http%20client",
    "HttpMonitor",
    "JNLP",
    "okhttp",
    "Python-urllib",
    "reqwest",
    "scalaj-http",
    "TLSProber",
    "unirest-(?:java|net|nodejs|php|python|ruby)",
    "WinHTTP",
];

/// Names that make a bot wherever they stand.
const NAMES: [&str; 152] = [
    r"50\.nu",
    "Aboundex",
    "Accoona-[A-z]{1,30}-Agent",
    "AdsBot-Google",
    "altavista",
    "AppEngine-Google",
    r"archive.{0,30}\.org_bot",
    "archiver",
    "Ask Jeeves",
    "bingbot",
    "BingPreview",
    "blitzbot",
    "BlogBridge",
    "Bloglovin",
    "BoardReader (?:Blog Indexer|Favicon Fetcher)",
    "boitho.com-dc",
    r"BotName/\$BotVersion",
    "BotSeer",
    "BUbiNG",
    "Catchpoint",
    "[Cc]harlotte",
    "Checklinks",
    "Cityreview Robot",
    "clumboot",
    "Daumoa",
    "favicon",
    "Feed Seeker Bot",
    "Feedbin",
    "Finderbots",
    "findlinks",
    "Flamingo_SearchEngine",
    "FollowSite Bot",
    "furlbot",
    "Genieo",
    "gigabot",
    "GomezAgent",
    "gonzo1",
    "Google SketchUp",
    "Googlebot",
    "grub-client",
    "heritrix",
    "HiddenMarket",
    "holmes",
    "HooWWWer",
    "htdig",
    "Icarus6j",
    "ichiro",
    "IconSurf",
    "IlTrovatore",
    "InfuzApp",
    "InternetArchive",
    "IP2[a-z]{1,30}Bot",
    r"jbot\b",
    "Job Roboter",
    "KaloogaBot",
    "Kraken",
    "Kurzor",
    "larbin",
    "LEIA",
    "LesnikBot",
    "Linguee Bot",
    "LinkAider",
    "LinkedInBot",
    "Lite Bot",
    "Llaut",
    "lycos",
    r"Mail\.RU_Bot",
    "masidani_bot",
    "masscan",
    "Mediapartners-Google",
    "Microsoft .{0,30} Bot",
    "MJ12bot",
    "mogimogi",
    "mozDex",
    "msnbot",
    "msrbot",
    "Mtps Feed Aggregation System",
    "netresearch",
    "Netvibes",
    "NewsGator",
    "^NING",
    "Nutch",
    "Nymesis",
    "ObjectsSearch",
    "OgScrper",
    "OOZBOT",
    "Orbiter",
    "PagePeeker",
    "PagesInventory",
    "PaxleFramework",
    "Peeplo Screenshot Bot",
    "PlantyNet_WebRobot",
    "Pompos",
    "Qwantify",
    "Read%20Later",
    "Reaper",
    "RedCarpet",
    "Retreiver",
    "Riddler",
    "Rival IQ",
    "scooter",
    "Scrapy",
    "Scrubby",
    "searchsight",
    "seekbot",
    "semanticdiscovery",
    "SemrushBot",
    "SEOstats",
    "SimplePie",
    "SimpleRSS",
    "Simpy",
    "SiteCat Webbot",
    "SiteCon",
    "Slack-ImgProxy",
    "Slackbot-LinkExpanding",
    "Slurp",
    "snappy",
    "Squrl Java",
    "Stringer",
    "TheUsefulbot",
    r"Thumb(?:ShotsBot|shots\.ru)",
    "Tiny Tiny RSS",
    "Twitterbot",
    "URL2PNG",
    "Vagabondo",
    "VoilaBot",
    "^vortex",
    "Votay bot",
    "^voyager",
    "WASALive.Bot",
    "Web-sniffer",
    "WebThumb",
    "WeSEE:[A-z]",
    "WhatsApp",
    "WhatWeb",
    "WIRE",
    "WordPress",
    "Wotbox",
    r"www\.almaden\.ibm\.com",
    "Xenu(?:.s)? Link Sleuth",
    "Xerka [A-z]{1,30}Bot",
    "yacy",
    "YahooSeeker",
    "Yandex[0-9A-Za-z_]",
    r"\bYeti",
    "YodaoBot",
    "YottaaMonitor",
    "Yowedo",
    "^Zao",
    r"ZeBot_www\.ze\.bz",
    "ZooShot",
    "ZyBorg",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_are_known() {
        for bot in [
            "Googlebot/2.1 (+http://www.google.com/bot.html)",
            "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
            "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
            "Mozilla/5.0 (compatible; YandexBot/3.0)",
            "facebookexternalhit/1.1",
            "Twitterbot",
            "Go-http-client/1.1",
            "Apache-HttpClient/4.5.2 (Java/1.8)",
            "Python-urllib/3.9",
            "okhttp/4.9",
            "unirest-java/1.3.11",
            "aws-sdk-dotnet-45/2.3.1",
            "Boto3/1.26",
            "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1) MSIECrawler",
            "Mozilla/4.0 (compatible; MSIE 5.5b1; Windows) MSIECrawler",
            "Mozilla/5.0 Chrome/50 PTST/284",
            "Mozilla/5.0 (X11) Google (+https://developers.google.com/+/web/snippet/)",
            "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
            "Mozilla/5.0 (compatible; SomeBot 1.0)",
            "AnyIndexer/7",
            "site/OtherBot-3",
            "A SPIDER",
            "scrapecat",
            "Wget/1 favicon",
            "Slackbot-LinkExpanding 1.0",
            "NING/1.0",
            "Y!J-BRW/1.0",
            "x 008/0.83",
            "Xenu's Link Sleuth 1.3.9",
            "Microsoft URL Bot",
            "IP2mapBot",
        ] {
            assert!(known().is_match(bot.as_bytes()), "{bot}");
        }
    }

    #[test]
    fn others_are_not() {
        for agent in [
            "",
            "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36",
            "Mozilla/5.0 (Linux; Android 9; CUBOT X19) AppleWebKit/537.36",
            "curl/8",
            "python-requests/2",
            "HTTrack",
            "wget/1",
            "robot",
            "x NING",
            "the vortex",
            "1008/2",
            "Yandex",
            "MSIE 6.0; Windows",
            "x PTST/1 y",
            "facebookexternalhit",
            "Boto3/x",
        ] {
            assert!(!known().is_match(agent.as_bytes()), "{agent}");
        }
    }
}
