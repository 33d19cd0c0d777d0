mod wechat;
